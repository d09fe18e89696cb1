"""Suspended tasks: nothing of them runs, and nothing is lost while they are."""
import os

import harness


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
