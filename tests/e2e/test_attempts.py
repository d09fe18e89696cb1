"""Each try at a task is known with its end and its log: show, logs --attempt, retry, also after the daemon's death."""
import os

import pytest

import harness


def flaky(drover, ends):
    """A command that ends otherwise each time: its n-th attempt runs the n-th of the shell texts."""
    counter = os.path.join(drover.folder, 'counter')
    cases = ' '.join(f'{number}) {text};;' for number, text in enumerate(ends, 1))
    return ['sh', '-c', f'echo x >> {counter}; n=$(wc -l < {counter}); echo attempt $n; case $n in {cases} esac']


def outcomes(task):
    return [(a['attempt'], a['state'], a['cause'], a['exit_code'], a['signal']) for a in task['attempts']]


@pytest.mark.parametrize('delay', ['0', '1ms'])
def test_every_attempt_is_told(drover, delay):
    """Also when the next one begins in the same moment."""
    drover.run('run', '--name', 'x', '--retries', '3', '--retry-delay', delay, '--timeout', '1s', '--grace', '100ms', '--',
               *flaky(drover, ['exit 7', 'kill -SEGV $$', 'sleep 60', 'exit 0']))
    task = drover.task('x')
    assert outcomes(task) == [(1, 'failed', 'exit 7', 7, None), (2, 'failed', 'signal SIGSEGV', None, 'SIGSEGV'),
                              (3, 'timed_out', 'timeout after 1s', None, 'SIGTERM'), (4, 'succeeded', 'exit 0', 0, None)]
    for attempt in task['attempts']:
        assert attempt['started_at'] <= attempt['ended_at'] and attempt['duration_s'] >= 0
        with open(attempt['log_path'], encoding='ascii') as file:
            assert file.read() == f'attempt {attempt["attempt"]}\n'
        assert drover.good('logs', '--attempt', attempt['attempt'], 'x') == f'attempt {attempt["attempt"]}\n'
    assert task['attempts'][2]['duration_s'] >= 1
    shown = drover.good('show', 'x')
    assert all(a['log_path'] in shown and a['cause'] in shown for a in task['attempts'])
    drover.bad(2, 'logs', '--attempt', 5, 'x', says='has no attempt 5: it has had 4')


def test_attempts_outlive_the_daemon_and_a_retry_by_hand(drover):
    drover.run('run', '--name', 'x', '--retries', '1', '--retry-delay', '1ms', '--',
               *flaky(drover, ['exit 1', 'exit 2', 'exit 3', 'exit 0']))
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    drover.good('retry', 'x')
    drover.wait_final('x')
    assert [a['exit_code'] for a in drover.task('x')['attempts']] == [1, 2, 3, 0]


def test_a_running_attempt_and_one_that_never_started(drover):
    gate = drover.gate()
    task = drover.shell(f'if test -e {drover.folder}/again; then {gate.wait}; else : > {drover.folder}/again; exit 5; fi',
                        '--retries', '1', '--retry-delay', '1ms')
    harness.wait_until(lambda: (drover.task(task)['attempt'], drover.state_of(task)) == (2, 'running'), 20, 'a second')
    first, second = drover.task(task)['attempts']
    assert (first['state'], first['exit_code'], second['state'], second['exit_code'], second['cause'], second['ended_at']) \
        == ('failed', 5, 'running', None, None, None)
    gate.open()
    drover.wait_final(task)
    drover.run('run', '--name', 'none', '--retries', '1', '--retry-delay', '1ms', '--', '/no/such/program')
    assert [(a['attempt'], a['start_error'], a['started_at']) for a in drover.task('none')['attempts']] \
        == [(1, 'ENOENT', None)]  # trying again would be of no use
    held = drover.add('--hold', 'true')[0]
    assert drover.task(held)['attempts'] == []
    drover.good('cancel', held)
    drover.good('retry', held)
    assert len(drover.wait_final(held)['attempts']) == 1


def test_of_very_many_attempts_the_latest_are_kept(drover):
    drover.run('run', '-q', '--name', 'x', '--retries', '110', '--retry-delay', '0', 'false')
    attempts = [a['attempt'] for a in drover.task('x')['attempts']]
    assert attempts == list(range(11, 112))


def test_attempts_in_worktrees_name_their_branch(drover, repository):
    drover.run('run', '-w', '--name', 'x', '--retries', '1', '--retry-delay', '1ms', '--',
               *flaky(drover, ['exit 1', 'exit 0']))
    task = drover.task('x')
    assert [a['state'] for a in task['attempts']] == ['failed', 'succeeded']
    assert task['attempts'][1]['branch'] == task['branch']


def test_cancel_all_and_retry_all(drover):
    gate = drover.gate()
    drover.add('-j', '1', '--batch', 'b', '--', 'sh', '-c', f'{gate.wait}', ':::', '1', '2', '3')
    drover.wait_state(1, 'running')
    assert drover.good('cancel', '--all', '--reason', 'enough') == 'cancelled 3 tasks\n'
    for number in (1, 2, 3):
        assert drover.wait_final(number)['cause'] == 'cancelled by user: enough'
    assert 'there was no such task' in drover.run('cancel', '--all').stderr
    gate.open()
    assert drover.good('retry', '--all') == 'queued again: 3 tasks\n'
    assert drover.run('wait', '--all').returncode == 0
    assert [task['state'] for task in drover.tasks()] == ['succeeded'] * 3
    assert [len(drover.task(number)['attempts']) for number in (1, 2, 3)] == [2, 1, 1]
