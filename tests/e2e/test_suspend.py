"""Suspended tasks: nothing of them runs, and nothing is lost while they are. All with cgroups and without."""
import os
import signal
import time

import pytest

import harness
import test_keeper


@pytest.fixture(params=['cgroup', 'descent'])
def drover(request, make_drover):
    """A drover whose keeper has cgroups, and one whose keeper stops and continues processes one by one."""
    drover = make_drover()
    if request.param == 'cgroup':
        if test_keeper.cgroup_reason():
            pytest.skip(f'needs cgroup2: {test_keeper.cgroup_reason()}')
        return drover
    before = test_keeper.without_cgroups()
    if before is None:
        pytest.skip('cgroups cannot be hidden from the keeper: no mount namespace for this user')
    drover.before = before
    start(drover)
    drover.before = []
    return drover


def start(drover, **more):
    drover.good('daemon', 'start', **more)
    rungs = {rung['name']: rung['is_best'] for rung in drover.daemon_status()['capabilities']}
    assert rungs['process trees'] == (not drover.before)


def restart_with(drover, **environment):
    """Another daemon, with this environment; the keeper is a new one too and in the same surroundings."""
    rungs = {rung['name']: rung['is_best'] for rung in (drover.daemon_status() or {'capabilities': []})['capabilities']}
    is_hidden = not rungs.get('process trees', True)
    drover.run('daemon', 'stop')
    drover.before = test_keeper.without_cgroups() if is_hidden else []
    start(drover, env=environment)
    drover.before = []


def counter(drover):
    """A task that counts in a file until its gate opens; it needs no time of its own."""
    gate = drover.gate()
    path = os.path.join(drover.folder, 'count')
    script = f'(while :; do echo x >> {path}; done) & {gate.wait}; kill $!; echo done'
    task = drover.shell(script)
    harness.wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 1000, 20, 'it counts')
    return task, gate, path


def frozen(pid):
    """What the kernel says of the cgroup of a process: True, False, or None without a cgroup of our own."""
    for line in harness.read_proc(pid, 'cgroup').decode().splitlines():
        number, _, path = line.split(':', 2)
        if number == '0' and 'drover-' in path:
            for mount in ('/sys/fs/cgroup', '/sys/fs/cgroup/unified'):
                events = f'{mount}{path}/cgroup.events'
                if os.path.exists(events):
                    return 'frozen 1' in harness.read(events)
    return None


def is_still(path):
    """True when the file does not grow while a whole other task is run."""
    before = os.path.getsize(path)
    return lambda drover: drover.good('run', 'true') == '' and os.path.getsize(path) == before


def wait_still(drover, path):
    harness.wait_until(lambda: is_still(path)(drover), 30, 'it stands still')


def test_suspend_and_resume(drover):
    task, gate, path = counter(drover)
    pid = drover.task(task)['pid']
    assert 'suspended 1 task' in drover.good('suspend', task)
    assert drover.state_of(task) == 'suspended'
    wait_still(drover, path)
    assert frozen(pid) in (True, None)
    assert drover.json('status')['suspended'] == 1
    drover.bad(1, 'suspend', task, says='cannot be suspended')
    assert 'resumed 1 task' in drover.good('resume', task)
    size = os.path.getsize(path)
    harness.wait_until(lambda: os.path.getsize(path) > size, 20, 'it goes on')
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['attempt']) == ('succeeded', 1)
    assert drover.log(task) == b'done\n'
    kinds = [event['kind'] for event in drover.connect().call('events.list', {})['events'] if event['task'] == task]
    assert kinds[-4:] == ['task.running', 'task.suspended', 'task.running', 'task.succeeded']


def test_a_suspended_task_stays_so_over_the_daemons_death(drover):
    task, gate, path = counter(drover)
    drover.good('suspend', task)
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    assert drover.state_of(task) == 'suspended'
    wait_still(drover, path)
    drover.good('daemon', 'restart')
    assert drover.state_of(task) == 'suspended'
    drover.good('resume', task)
    gate.open()
    assert drover.wait_final(task)['state'] == 'succeeded'


def test_cancel_of_a_suspended_task_ends_all_of_it(drover):
    task, _, path = counter(drover)
    pid = drover.task(task)['pid']
    drover.good('suspend', task)
    drover.good('cancel', task)
    assert drover.wait_final(task)['state'] == 'cancelled'
    harness.wait_gone(pid)
    wait_still(drover, path)


def test_what_does_not_run_cannot_be_suspended(drover):
    task = drover.shell('true', '--hold')
    drover.bad(1, 'suspend', task, says='held')
    drover.bad(1, 'resume', task, says='cannot be resumed')
    assert drover.state_of(task) == 'held'


def running(drover, script, *options):
    """A task that said something: it runs."""
    task = drover.shell(script, '-j', 8, *options)
    harness.wait_until(lambda: drover.task(task)['state'] == 'running' and drover.log(task), 20, 'it runs')
    return task


def wait_wall(seconds):
    end = time.monotonic() + seconds
    harness.wait_until(lambda: time.monotonic() > end, seconds + 10)


def test_the_time_limit_stands_still(drover):
    """Over restarts of the daemon, too; what is left of it is all it gets afterwards."""
    task = running(drover, 'echo up; while :; do :; done', '--timeout', '2500ms', '--grace', '100ms')
    drover.good('suspend', task)
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    wait_wall(2.5)
    drover.good('daemon', 'restart')
    assert drover.state_of(task) == 'suspended'
    begin = time.monotonic()
    drover.good('resume', task)
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    done = drover.wait_final(task)
    assert (done['state'], done['cause']) == ('timed_out', 'timeout after 2s500ms')
    assert time.monotonic() - begin < 15
    assert done['duration_s'] >= 5  # wall time from start to end


def test_a_limit_that_is_nearly_over_is_not_overrun_by_a_suspension(drover):
    task = running(drover, 'echo up; exec sleep 3', '--timeout', '20s')
    for _ in range(3):
        drover.good('suspend', task)
        drover.good('resume', task)
    assert drover.wait_final(task)['state'] == 'succeeded'


def test_killed_while_it_is_suspended(drover):
    task = running(drover, 'echo up; while :; do :; done')
    pid = drover.task(task)['pid']
    drover.good('suspend', task)
    harness.signal_process(pid, signal.SIGKILL)
    done = drover.wait_final(task)
    assert (done['state'], done['cause']) == ('failed', 'signal SIGKILL')


@pytest.mark.parametrize('place', ['suspend_intent', 'frozen_not_recorded'])
def test_the_daemon_is_killed_while_suspending(drover, place):
    task, gate, path = counter(drover)
    once = os.path.join(drover.folder, 'once')
    restart_with(drover, DROVER_FAIL=place, DROVER_FAIL_ONCE=once)
    drover.run('suspend', task)
    harness.wait_until(lambda: os.path.exists(once), 20, f'{place} is reached')
    drover.wait_daemon()
    assert drover.state_of(task) == 'suspended'
    wait_still(drover, path)
    drover.good('resume', task)
    gate.open()
    assert drover.wait_final(task)['state'] == 'succeeded'


def test_the_daemon_is_killed_while_resuming(drover):
    task, gate, _ = counter(drover)
    once = os.path.join(drover.folder, 'once')
    drover.good('suspend', task)
    restart_with(drover, DROVER_FAIL='thawed_not_recorded', DROVER_FAIL_ONCE=once)
    drover.run('resume', task)
    harness.wait_until(lambda: os.path.exists(once), 20, 'the place is reached')
    drover.wait_daemon()
    assert drover.state_of(task) == 'running'
    gate.open()
    assert drover.wait_final(task)['state'] == 'succeeded'


def test_no_daemon_for_a_while(drover):
    """daemon stop and start with a suspended task; --stop-tasks ends it."""
    task, _, path = counter(drover)
    drover.good('suspend', task)
    restart_with(drover)
    assert drover.state_of(task) == 'suspended'
    wait_still(drover, path)
    pid = drover.task(task)['pid']
    drover.good('daemon', 'stop', '--stop-tasks')
    assert not harness.is_running(pid)
    assert drover.state_of(task) == 'cancelled'


@pytest.mark.parametrize('with_keeper', [False, True])
def test_the_shim_is_killed_while_its_task_is_suspended(drover, with_keeper):
    task, gate, path = counter(drover)
    drover.good('suspend', task)
    wait_still(drover, path)
    shim, keeper = drover.shim_of(task), drover.keeper_pid()
    if with_keeper:
        harness.signal_process(keeper, signal.SIGKILL)
        harness.wait_gone(keeper)
    harness.signal_process(shim, signal.SIGKILL)
    harness.wait_gone(shim)
    harness.wait_until(lambda: drover.task(task)['conditions'] == ['lost-shim'], 30, 'the daemon knows')
    assert drover.state_of(task) == 'suspended'
    wait_still(drover, path)
    drover.good('resume', task)
    size = os.path.getsize(path)
    harness.wait_until(lambda: os.path.getsize(path) > size, 30, 'it goes on')
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['cause']) == ('lost', 'lost: its shim died, so its exit status is unknown')
    if not with_keeper:  # else nobody was left who held the pipe
        assert drover.log(task) == b'done\n'


def test_what_was_ordered_of_a_dying_shim_is_done_by_the_next(drover):
    """The order to suspend dies with the shim: the recorded state is what holds in the end."""
    task, _, path = counter(drover)
    shim = drover.shim_of(task)
    os.kill(shim, signal.SIGSTOP)
    os.kill(shim, signal.SIGKILL)
    drover.good('suspend', task)
    wait_still(drover, path)
    assert drover.state_of(task) == 'suspended'
    drover.good('cancel', task)
    assert drover.wait_final(task)['state'] == 'cancelled'


def test_a_suspended_task_keeps_its_slot(drover):
    """All are suspended: nothing new starts, which is said; everything is answered; an end makes room."""
    slots = drover.json('status')['slots']
    tasks = [drover.shell('echo up; while :; do :; done') for _ in range(slots)]
    for task in tasks:
        drover.wait_state(task, 'running')
    drover.good('suspend', '--all')
    waiting = drover.shell('echo later')
    assert drover.json('status')['suspended'] == slots
    assert f'{slots} of them suspended' in drover.good('why', waiting)
    assert 'the user suspended it' in drover.good('why', tasks[0])
    drover.good('cancel', tasks[0])
    assert drover.wait_final(waiting)['state'] == 'succeeded'
    drover.good('cancel', '--all')
    assert {drover.wait_final(task)['state'] for task in tasks} == {'cancelled'}


def test_what_cannot_be_done_to_a_suspended_task(drover):
    task = running(drover, 'echo before; while :; do :; done')
    drover.good('suspend', task, '--reason', 'too hot')
    assert 'too hot' in drover.good('why', task)
    drover.bad(1, 'retry', task, says='suspended: it cannot be retried')
    drover.bad(1, 'release', task, says='suspended: it cannot be released')
    assert drover.good('logs', task) == 'before\n'  # what was written before can be read
    drover.good('cancel', task)
    assert drover.wait_final(task)['cause'] == 'cancelled by user'  # not for the reason it was suspended for


def test_what_is_ending_cannot_be_suspended(drover):
    task = running(drover, 'trap "" TERM; echo up; while :; do :; done', '--grace', '3s')
    drover.good('cancel', task)
    drover.bad(1, 'suspend', task, says='is stopping: it cannot be suspended')
    assert drover.wait_final(task)['state'] == 'cancelled'


@pytest.mark.limit(180)
def test_a_hundred_at_once(drover):
    folder = os.path.join(drover.environment['HOME'], '.config', 'drover')
    os.makedirs(folder)
    harness.write(os.path.join(folder, 'config.yaml'), 'limits:\n  hardMaxConcurrent: 100\n')
    restart_with(drover)
    gate = drover.gate()
    values = '\n'.join(map(str, range(100)))
    ids = drover.add('-j', 100, '-a', '-', '--', 'sh', '-c', f'{gate.wait}; echo {{}}', input=values)
    harness.wait_until(lambda: drover.json('status')['states']['running'] == 100, 120, '100 run')
    pids = [drover.task(task)['pid'] for task in ids]
    assert 'suspended 100 tasks' in drover.good('suspend', '--all')
    harness.wait_until(lambda: all(frozen(pid) is True or harness.stat_fields(pid)[0] == b'T' for pid in pids), 30)
    gate.open()
    assert drover.json('status')['states']['suspended'] == 100
    assert 'resumed 100 tasks' in drover.good('resume', '--all')
    harness.wait_until(lambda: drover.json('status')['states']['succeeded'] == 100, 120, 'all end')
