"""Memory that is not there: the N-th allocation of daemon or client fails, once or from then on, while drover submits,
starts, recovers. What was acknowledged exists, what was not exists once or never, nothing runs twice, the database is
whole.

In `make check` a dose of the N; `make soak` takes every one.
"""
import ctypes
import mmap
import os
import signal
import subprocess

import pytest

import harness

IS_SOAK = bool(os.environ.get('DROVER_SOAK'))
DOSE = int(os.environ.get('DROVER_DOSE', 6))  # points of each sweep in `make check`
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'malloc_fault.c')


class Control(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ('calls', 'at', 'is_ever', 'failed')]


class Fault:
    """What malloc_fault.c does in `program`, armed and disarmed from here."""

    def __init__(self, drover, program):
        library = os.path.join(drover.folder, 'malloc_fault.so')
        subprocess.run(['cc', '-D_GNU_SOURCE', '-shared', '-fPIC', '-O1', '-o', library, SOURCE], check=True)
        path = os.path.join(drover.folder, 'control')
        with open(path, 'wb') as file:
            file.write(bytes(ctypes.sizeof(Control)))
        with open(path, 'r+b') as file:
            self.memory = mmap.mmap(file.fileno(), ctypes.sizeof(Control))
        self.control = Control.from_buffer(self.memory)
        drover.environment.update({'LD_PRELOAD': library, 'MALLOC_FAULT': path, 'MALLOC_FAULT_PROGRAM': program})

    def arm(self, at=0, is_ever=False):
        """The at-th call from now on fails; 0 only counts."""
        self.control.at = 0
        self.control.failed = self.control.calls = 0
        self.control.is_ever = is_ever
        self.control.at = at

    def disarm(self):
        self.control.at = 0


@pytest.fixture
def faulty(make_drover):
    """Makes a drover of a plain build with a fault in one of its programs."""
    build = harness.find_plain_build()
    if build is None:
        pytest.skip('needs a build without sanitizers: build/clang or build/release')

    def make(program):
        drover = make_drover()
        drover.use_build(build)
        drover.ran = os.path.join(drover.folder, 'ran')
        harness.write(drover.ran, '')
        return drover, Fault(drover, program)
    return make


def points(total):
    assert total > 20, 'no allocations to fail were counted'
    return range(1, total + 1, 1 if IS_SOAK else max(1, total // DOSE))


def renew(drover, keeper):
    """Another keeper, whose pauses are short again, and another daemon. Running tasks go on."""
    harness.signal_process(keeper, signal.SIGTERM)
    harness.wait_gone(keeper)
    drover.start()
    return drover.keeper_pid()


def survive(fault, process, is_ever):
    """Lets the process meet the fault; what fails for ever is mended when it has failed for the third time."""
    if is_ever:
        harness.wait_until(lambda: fault.control.failed >= 3 or process.poll() is not None, 30, 'it failed three times')
        fault.disarm()
    out, err = process.communicate(timeout=60)
    fault.disarm()
    return process.returncode, out.decode(), err.decode()


def check(drover, labels, acknowledged):
    """`labels` were submitted as one task each: all that was acknowledged ran once, of the rest each once or never."""
    assert drover.run('wait', '--all', limit_s=60).returncode in (0, 1)
    ran = harness.read(drover.ran).split()
    tasks = drover.tasks()
    listed = [task['command'][-1].split()[1] for task in tasks]
    assert sorted(ran) == sorted(listed), 'what is listed ran once'
    assert len(set(ran)) == len(ran) and set(ran) <= set(labels)
    assert set(acknowledged.values()) <= set(ran)
    assert {task['id']: label for task, label in zip(tasks, listed) if task['id'] in acknowledged} == acknowledged
    assert {task['attempt'] for task in tasks} <= {1}
    drover.good('db', 'check')


def submit(drover, label):
    return drover.popen('add', '--', 'sh', '-c', f'echo {label} >> {drover.ran}')


@pytest.mark.soak
@pytest.mark.limit(7200 if IS_SOAK else 120)
@pytest.mark.parametrize('is_ever', [False, True], ids=['once', 'ever'])
@pytest.mark.parametrize('program', ['drover-daemon', 'drover'])
def test_submitting(faulty, program, is_ever):
    drover, fault = faulty(program)
    drover.start()
    keeper = drover.keeper_pid()
    labels, acknowledged = [], {}

    def try_one(label, at):
        fault.arm(at, is_ever)
        labels.append(label)
        status, out, err = survive(fault, submit(drover, label), is_ever and program == 'drover-daemon')
        if status == 0:
            acknowledged[int(out)] = label
        else:
            assert err.strip(), 'a failure without a word'
    try_one('count', 0)
    for at in points(fault.control.calls):
        try_one(f'at-{at}', at)
        if fault.control.failed and program == 'drover-daemon':
            keeper = renew(drover, keeper)
    assert len(acknowledged) > len(labels) // 4 or program == 'drover'
    check(drover, labels, acknowledged)


@pytest.mark.soak
@pytest.mark.limit(7200 if IS_SOAK else 120)
@pytest.mark.parametrize('is_ever', [False, True], ids=['once', 'ever'])
def test_starting(faulty, is_ever):
    """With finished and held tasks, an environment, a configuration: all is there after each start."""
    drover, fault = faulty('drover-daemon')
    config = os.path.join(drover.environment['HOME'], '.config', 'drover')
    os.makedirs(config)
    harness.write(os.path.join(config, 'config.yaml'), 'maxParallel: 3\nlimits: {hardMaxConcurrent: 4}\n')
    done = drover.add('sh', '-c', f'echo {{}} >> {drover.ran}', ':::', 'a', 'b', 'c')
    drover.run('wait', *done)
    held = drover.add('--hold', '--name', 'kept', '--', 'sh', '-c', f'echo d >> {drover.ran}')
    drover.good('daemon', 'stop')
    before = drover.good('ls', '--all', '--json')
    drover.good('daemon', 'stop')
    fault.arm()
    drover.start()
    total = fault.control.calls
    for at in points(total):
        keeper = drover.keeper_pid()
        harness.signal_process(keeper, signal.SIGTERM)
        harness.wait_gone(keeper)
        fault.arm(at, is_ever)
        status, _, err = survive(fault, drover.popen('daemon', 'start'), is_ever)
        assert fault.control.failed or at > total * 9 // 10, f'allocation {at} was never made'
        assert status == 0 or err.strip()
        if status != 0:
            print(at, err)
            drover.start()
        drover.wait_daemon()
        assert drover.good('ls', '--all', '--json') == before
    drover.good('release', *held)
    check(drover, ['a', 'b', 'c', 'd'], dict(zip(done + held, ['a', 'b', 'c', 'd'])))


@pytest.mark.soak
@pytest.mark.limit(7200 if IS_SOAK else 120)
@pytest.mark.parametrize('is_ever', [False, True], ids=['once', 'ever'])
def test_recovering(faulty, is_ever):
    """Killed with tasks running, waiting, and ended unseen; the next daemon fails while it takes them up."""
    drover, fault = faulty('drover-daemon')
    gate = drover.gate()
    tasks = drover.add('-j', 2, 'sh', '-c', f'{gate.wait}; exit 7; echo {{}}; {{}}', ':::', *range(4))
    for task in tasks[:2]:
        drover.wait_state(task, 'running')
    keeper, labels, acknowledged = drover.keeper_pid(), [], {}

    def crash(at):
        pid = drover.daemon_pid()
        done = submit_short(drover, f'at-{at}')
        labels.append(f'at-{at}')
        fault.arm(at, is_ever)
        harness.signal_process(pid, signal.SIGKILL)
        if is_ever:
            harness.wait_until(lambda: fault.control.failed >= 3 or not at, 30, 'it failed three times')
            fault.disarm()
        drover.wait_daemon(other_than=pid)
        fault.disarm()
        acknowledged[done] = f'at-{at}'
    crash(0)
    for at in points(fault.control.calls):
        crash(at)
        keeper = renew(drover, keeper)
        assert [drover.state_of(task) for task in tasks] == ['running', 'running', 'queued', 'queued']
    gate.open()
    ended = [drover.wait_final(task) for task in tasks]
    assert [(task['exit_code'], task['attempt']) for task in ended] == [(7, 1)] * 4
    drover.good('clean', *tasks)
    check(drover, labels, acknowledged)


def submit_short(drover, label):
    return drover.add('-j', 3, 'sh', '-c', f'echo {label} >> {drover.ran}')[0]
