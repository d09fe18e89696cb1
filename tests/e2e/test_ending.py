"""How tasks end: cancel, what they leave behind, what cannot be started. FAULTS 32, 33, 35, 40, 41, 10."""
import os
import signal

import pytest

import harness


def marked(drover, mark):
    """Processes of this drover whose command line holds the mark."""
    return [pid for pid, line in drover.processes() if mark in line]


def test_cancel_of_one_that_ignores_term(drover):
    harness.write(os.path.join(drover.work, 'b.yaml'), '''
tasks:
  - {name: deaf, grace: 200ms, run: "trap '' TERM; echo ready; while :; do sleep 777; done"}
''')
    drover.good('add', '-f', 'b.yaml')
    drover.wait_state('deaf', 'running')
    harness.wait_until(lambda: drover.log('deaf') == b'ready\n', 20, 'the trap is set')
    drover.good('cancel', 'deaf')
    task = drover.wait_final('deaf')
    assert task['state'] == 'cancelled' and 'cancelled' in task['cause']
    assert marked(drover, 'sleep 777') == []


def test_cancel_lets_one_that_listens_end_in_order(drover):
    gate = drover.gate()
    task = drover.shell(f"trap 'echo bye; exit 0' TERM; echo ready; {gate.wait}")
    drover.wait_state(task, 'running')
    harness.wait_until(lambda: drover.log(task) == b'ready\n', 20, 'the trap is set')
    drover.good('cancel', task)
    assert drover.wait_final(task)['state'] == 'cancelled'
    assert drover.log(task) == b'ready\nbye\n'


def test_cancel_of_waiting_and_of_finished(drover):
    gate = drover.gate()
    first = drover.shell(gate.wait)
    second = drover.add('--after', str(first), '--', 'touch', 'never')[0]
    drover.good('cancel', second)
    assert drover.wait_final(second)['state'] == 'cancelled'
    gate.open()
    drover.wait_final(first)
    assert drover.run('cancel', first).returncode == 1
    assert not os.path.exists(os.path.join(drover.work, 'never'))


def test_the_whole_set_is_ended(drover):
    """Double fork, new session, ignored signals: all of it goes, and the group too."""
    task = drover.shell("for i in 1 2 3; do setsid sh -c '(trap \"\" TERM HUP; sleep 778 & sleep 778) &' & done; wait; "
                        'echo ready; sleep 778')
    harness.wait_until(lambda: len(marked(drover, 'sleep 778')) >= 7, 20, 'all of them run')
    leader = drover.task(task)['pid']
    groups = [line[3:] for line in harness.read(f'/proc/{leader}/cgroup').splitlines() if line.startswith('0::')]
    drover.good('cancel', task)
    assert drover.wait_final(task, limit_s=40)['state'] == 'cancelled'
    assert marked(drover, 'sleep 778') == []
    drover.good('daemon', 'stop', '--stop-tasks')
    for group in groups:
        if 'drover' in group:
            for mount in ('/sys/fs/cgroup', '/sys/fs/cgroup/unified'):
                harness.wait_until(lambda path=mount + group: not os.path.exists(path), 10, f'{mount + group} is removed')


@pytest.mark.limit(90)
def test_what_a_task_leaves_behind_is_ended_and_counted(drover):
    done = drover.run('run', '--', 'sh', '-c', 'setsid sleep 779 & sleep 779 & echo left')
    assert (done.returncode, done.stdout) == (0, 'left\n')
    task = drover.task(1)
    assert task['state'] == 'succeeded' and task['strays'] == 2
    assert marked(drover, 'sleep 779') == []


def test_leave_running_keeps_it(drover):
    done = drover.run('run', '--leave-running', '--', 'sh', '-c', 'sleep 780 > /dev/null 2>&1 & echo left')
    assert (done.returncode, done.stdout) == (0, 'left\n')
    left = marked(drover, 'sleep 780')
    assert len(left) == 1
    drover.good('daemon', 'stop', '--stop-tasks')
    assert marked(drover, 'sleep 780') == left
    harness.signal_process(left[0], signal.SIGKILL)


def start_failure(drover, *command):
    """The status is a shell's; that the program did not say it itself is in the task."""
    done = drover.run('run', '--', *command)
    task = drover.tasks()[-1]
    assert (done.returncode, task['start_error']) in ((127, 'ENOENT'), (126, 'EACCES'), (126, 'ENOEXEC'))
    assert task['state'] == 'failed' and task['exit_code'] is None
    assert task['cause'].startswith('failed to start'), task['cause']
    return task['cause'] + done.stderr


def test_a_program_that_is_not_there_is_told_from_exit_127(drover):
    assert 'no-such-program' in start_failure(drover, 'no-such-program')
    assert '/nowhere/x' in start_failure(drover, '/nowhere/x')
    assert drover.run('run', '--', 'sh', '-c', 'exit 127').returncode == 127
    assert (drover.tasks()[-1]['cause'], drover.tasks()[-1]['start_error']) == ('exit 127', None)


def test_a_program_that_may_not_be_executed(drover):
    harness.write(os.path.join(drover.work, 'plain'), '#!/bin/sh\n', mode=0o644)
    assert 'ermission' in start_failure(drover, './plain')
    os.mkdir(os.path.join(drover.work, 'folder'))
    start_failure(drover, './folder')


def test_a_bad_interpreter_is_named(drover):
    harness.write(os.path.join(drover.work, 'script'), '#!/nowhere/interpreter -x\n', mode=0o755)
    assert '/nowhere/interpreter' in start_failure(drover, './script') or 'interpreter' in drover.tasks()[-1]['cause']


def test_a_program_for_another_machine(drover):
    harness.write(os.path.join(drover.work, 'alien'), '\x7fELF' + '\0' * 60, mode=0o755)
    start_failure(drover, './alien')
    harness.write(os.path.join(drover.work, 'script'), 'echo no first line\n', mode=0o755)
    assert drover.good('run', '--', './script') == 'no first line\n'  # as in any shell


def test_an_argument_too_long(drover):
    harness.write(os.path.join(drover.work, 'b.yaml'), f'tasks:\n  - {{name: long, run: [echo, "{"x" * 140000}"]}}\n')
    assert drover.run('run', '-f', 'b.yaml').returncode == 1
    task = drover.task('long')
    assert task['state'] == 'failed' and task['cause'].startswith('failed to start')


def test_a_directory_that_is_gone(drover):
    gate = drover.gate()
    below = os.path.join(drover.work, 'below')
    os.mkdir(below)
    first = drover.shell(gate.wait)
    second = drover.add('--after', str(first), '--', 'true', cwd=below)[0]
    os.rmdir(below)
    gate.open()
    task = drover.wait_final(second)
    assert task['state'] == 'failed' and 'failed to start' in task['cause'] and below in task['cause']


def test_zombies_of_a_foreign_process_1(drover):
    """A process 1 that reaps nobody: the shim is subreaper, so tasks with orphans still end."""
    script = '"$@"; status=$?; "$0" daemon stop --stop-tasks > /dev/null; exit $status'
    done = drover.run('run', '-j', 4, 'sh', '-c', '(true & (true &) ) & echo {}', ':::', *range(20),
                      before=('unshare', '-pf', '--mount-proc', 'sh', '-c', script, drover.client))
    if done.returncode != 0 and 'unshare' in done.stderr:
        pytest.skip(f'no process namespace of our own: {done.stderr.strip()}')
    assert done.returncode == 0, done.stderr
    assert sorted(int(word) for word in done.stdout.split()) == list(range(20))


def test_a_killed_shim_does_not_end_its_task(drover):
    gate = drover.gate()
    task = drover.shell(f'echo before; {gate.wait}; echo after; touch effect')
    drover.wait_state(task, 'running')
    leader = drover.task(task)['pid']
    harness.signal_process(drover.shim_of(task), signal.SIGKILL)
    harness.wait_until(lambda: 'lost-shim' in drover.task(task)['conditions'], 20, 'the loss is noticed')
    assert harness.is_running(leader) and drover.state_of(task) == 'running'
    gate.open()
    done = drover.wait_final(task)
    assert done['state'] == 'lost' and done['cause'].startswith('lost'), done['cause']
    assert os.path.exists(os.path.join(drover.work, 'effect'))
    assert drover.log(task) == b'before\nafter\n'


def test_a_task_without_its_shim_can_be_cancelled(drover):
    task = drover.shell('setsid sleep 781 & sleep 781')
    harness.wait_until(lambda: len(marked(drover, 'sleep 781')) >= 2, 20, 'both run')
    harness.signal_process(drover.shim_of(task), signal.SIGKILL)
    harness.wait_until(lambda: 'lost-shim' in drover.task(task)['conditions'], 20, 'the loss is noticed')
    drover.good('cancel', task)
    assert drover.wait_final(task)['state'] in ('cancelled', 'lost')
    harness.wait_until(lambda: marked(drover, 'sleep 781') == [], 20, 'nothing of it is left')


def test_a_lost_task_runs_again_only_when_declared(drover):
    gate = drover.gate()
    task = drover.add('--idempotent', '--', 'sh', '-c', f'echo x >> tries; {gate.wait}')[0]
    drover.wait_state(task, 'running')
    harness.signal_process(drover.shim_of(task), signal.SIGKILL)
    harness.wait_until(lambda: 'lost-shim' in drover.task(task)['conditions'], 20, 'the loss is noticed')
    gate.open()
    assert drover.wait_state(task, 'succeeded')['attempt'] == 2
    assert harness.read(os.path.join(drover.work, 'tries')) == 'x\nx\n'
