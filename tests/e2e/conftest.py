"""Fixtures, and a time limit for each test: 60 s, or what @pytest.mark.limit(seconds) says."""
import contextlib
import functools
import os
import signal

import pytest

import harness

LIMIT_S = 60


def pytest_configure(config):
    config.addinivalue_line('markers', 'limit(seconds): time limit of a test')
    config.addinivalue_line('markers', 'soak: has a longer form, which DROVER_SOAK=1 asks for (make soak)')
    if not config.option.collectonly and not os.path.exists(os.path.join(harness.find_build(), 'src', 'drover')):
        pytest.exit(f'there is no drover in {harness.find_build()}/src: make check builds it', returncode=3)
    harness.become_subreaper()
    # Whoever started us in the background of a shell has it ignored, and all that we start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def alarm(seconds, what):
    """Interrupts whatever is waited for; inside a phase of a test, so that the test fails and nothing else."""
    def over(_number, _frame):
        raise harness.Timeout(f'{what} took longer than {seconds} s')
    old = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    marker = pyfuncitem.get_closest_marker('limit')
    function, seconds = pyfuncitem.obj, marker.args[0] if marker else LIMIT_S

    @functools.wraps(function)
    def limited(*arguments, **named):
        with alarm(seconds, pyfuncitem.name):
            return function(*arguments, **named)
    pyfuncitem.obj = limited
    yield
    pyfuncitem.obj = function


@contextlib.contextmanager
def drovers():
    """Makes drovers with state of their own; at the end nothing of them may be left."""
    made = []

    def make(**options):
        folder = harness.make_folder()
        made.append(harness.Drover(folder, **options))
        return made[-1]
    yield make
    faults = []
    for drover in made:
        with alarm(LIMIT_S, 'ending a drover'):
            left = drover.stop()
        if left:
            faults.append(f'processes left after daemon stop --stop-tasks: {left}')
        faults += drover.sanitizer_reports()
        if faults:
            faults.append('daemon log: ' + drover.daemon_log()[-3000:])
        harness.reap_orphans()
        harness.remove_folder(drover.folder)
    assert not faults, '\n'.join(faults)


@pytest.fixture
def make_drover():
    with drovers() as make:
        yield make


@pytest.fixture
def drover(make_drover):
    return make_drover()


@pytest.fixture(scope='module')
def module_drover():
    """One for all the tests of a file that need no state of their own."""
    with drovers() as make:
        yield make()


@pytest.fixture
def repository(drover):
    """A git repository with one commit; the drover's commands run in it."""
    folder = os.path.join(drover.folder, 'repository')
    harness.make_repository(folder)
    drover.work = folder
    return folder
