"""kill -9 of the daemon at each of its named places (base/failpoint.h): nothing is lost, nothing runs twice."""
import json
import os
import re

import pytest

import harness

SOURCES = os.path.join(harness.ROOT, 'src')


def find_places():
    """The places that the daemon's sources name, so that a new one cannot be forgotten here."""
    places = set()
    for folder, _, names in os.walk(os.path.join(SOURCES, 'daemon')):
        for name in names:
            if name.endswith('.c'):
                for call in re.findall(r'FAILPOINT\(([^;]*)\);', harness.read(os.path.join(folder, name))):
                    places.update(re.findall(r'"(\w+)"', call))
    return sorted(places)


AT_STOP = {'stopping'}
AT_SUSPEND = {'suspend_intent', 'frozen_not_recorded', 'thawed_not_recorded'}  # test_suspend.py
AT_CANCEL = {'term_sent', 'kill_sent'}
AT_RESTORE = {'restore_swapping'}  # in test_store.py
AT_START = {'recovery_classified', 'recovery_fed', 'socket_bound_not_told'}
PLACES = [place for place in find_places() if place not in AT_STOP | AT_CANCEL | AT_SUSPEND | AT_RESTORE]


def make_batch(drover, effects):
    """Tasks of all kinds: plain, with a worktree, failing with a retry, dependent; each tells that it ran by one line."""
    note = f'echo "$PARALLEL_TASK_ID.$DROVER_ATTEMPT" >> {effects}'
    tasks = [{'id': f'plain{i}', 'run': note} for i in range(4)]
    tasks += [{'id': f'tree{i}', 'run': f'{note}; echo {i} > new', 'worktree': 'checkout'} for i in range(2)]
    tasks += [{'id': 'again', 'run': f'{note}; test $DROVER_ATTEMPT = 2', 'retries': 1, 'retryDelay': '10ms'},
              {'id': 'last', 'run': note, 'after': [task['id'] for task in tasks]}]
    path = os.path.join(drover.folder, 'batch.json')
    harness.write(path, json.dumps({'tasks': tasks}))
    return path


def check_end(drover, effects):
    tasks = drover.tasks()
    assert [task['id'] for task in tasks] == list(range(1, 9))
    assert {task['name']: task['state'] for task in tasks} == {task['name']: 'succeeded' for task in tasks}
    expected = ['1.1', '2.1', '3.1', '4.1', '5.1', '6.1', '7.1', '7.2', '8.1']
    assert sorted(harness.read(effects).split()) == expected
    for i in range(2):
        assert harness.git('show', f'parallel/tree{i}:new', cwd=drover.work) == str(i)
    assert harness.git('status', '--porcelain', cwd=drover.work) == ''
    assert harness.git('fsck', '--connectivity-only', cwd=drover.work) == ''


def run_with_failure(make_drover, place):
    drover = make_drover()
    once = os.path.join(drover.folder, 'once')
    effects = os.path.join(drover.folder, 'effects')
    drover.work = os.path.join(drover.folder, 'repository')
    harness.make_repository(drover.work)
    drover.environment.update({'DROVER_FAIL': place, 'DROVER_FAIL_ONCE': once})
    done = drover.run('run', '-j', 3, '-f', make_batch(drover, effects), limit_s=100)
    assert done.returncode == 0, done.stderr[-2000:] + drover.daemon_log()[-2000:]
    assert os.path.exists(once), f'the place {place} was never reached'
    check_end(drover, effects)


@pytest.mark.limit(120)
@pytest.mark.parametrize('place', PLACES)
def test_kill_at_place(make_drover, place):
    run_with_failure(make_drover, place)


@pytest.mark.limit(120)
@pytest.mark.parametrize('number', [2, 5, 9])
@pytest.mark.parametrize('place', ['claimed', 'committed_not_notified', 'decided_not_committed', 'exit_record_seen'])
def test_kill_at_a_later_time(make_drover, place, number):
    run_with_failure(make_drover, f'{place}:{number}')


@pytest.mark.parametrize('place', sorted(AT_CANCEL))
def test_kill_while_cancelling(make_drover, place):
    drover = make_drover()
    once = os.path.join(drover.folder, 'once')
    drover.environment.update({'DROVER_FAIL': place, 'DROVER_FAIL_ONCE': once})
    task = drover.shell('trap "" TERM; echo ready; while :; do read x < /dev/zero; done', '--grace', '300ms')
    harness.wait_until(lambda: drover.task(task)['state'] == 'running' and drover.log(task), 20, 'it runs')
    drover.run('cancel', task)
    end = drover.wait_final(task)
    assert end['state'] == 'cancelled'
    assert os.path.exists(once), f'the place {place} was never reached'


def test_kill_while_stopping(make_drover):
    drover = make_drover()
    drover.environment.update({'DROVER_FAIL': 'stopping', 'DROVER_FAIL_ONCE': os.path.join(drover.folder, 'once')})
    gate = drover.gate()
    task = drover.shell(f'{gate.wait}; echo done')
    drover.wait_state(task, 'running')
    drover.run('daemon', 'stop')
    gate.open()
    assert drover.wait_final(task)['state'] == 'succeeded'
    assert drover.log(task) == b'done\n'


@pytest.mark.limit(120)
@pytest.mark.parametrize('place', sorted(AT_START))
def test_killed_again_in_recovery(make_drover, place):
    """Starts in a row that die in recovery: attempts do not grow, the task is still the one process."""
    drover = make_drover()
    effects = os.path.join(drover.folder, 'effects')
    gate = drover.gate()
    task = drover.shell(f'echo $$ >> {effects}; {gate.wait}; echo done')
    pid = drover.wait_state(task, 'running')['pid']
    harness.wait_until(lambda: os.path.exists(effects), 20, 'it has begun')
    drover.good('daemon', 'stop')
    for number in range(5):
        once = os.path.join(drover.folder, f'once{number}')
        drover.run('daemon', 'start', env={'DROVER_FAIL': place, 'DROVER_FAIL_ONCE': once})
        assert os.path.exists(once), f'the place {place} was never reached'
        drover.wait_daemon()
        drover.good('daemon', 'stop')
    shown = drover.task(task)
    assert (shown['state'], shown['attempt'], shown['pid']) == ('running', 1, pid)
    gate.open()
    assert drover.wait_final(task)['state'] == 'succeeded'
    assert len(harness.read(effects).split()) == 1
