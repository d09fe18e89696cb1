"""kill -9 of whatever is ours: nothing is lost and nothing runs twice. FAULTS 1, 2, 10."""
import os
import signal

import pytest

import harness


def count_lines(path):
    try:
        with open(path, 'rb') as file:
            return file.read().count(b'\n')
    except FileNotFoundError:
        return 0


def wait_lines(path, count, limit_s=60):
    harness.wait_until(lambda: count_lines(path) >= count, limit_s, f'{count} lines in {path}')


def check_once(drover, ids, effects):
    """Each task's effect was seen exactly once, its end is known, its output whole."""
    tasks = {task['id']: task for task in drover.tasks()}
    assert sorted(tasks) == ids
    odd = [(task['id'], task['state'], task['attempt'], task['cause']) for task in tasks.values()
           if (task['state'], task['attempt'], task['exit_code']) != ('succeeded', 1, 0)]
    assert odd == []
    assert sorted(map(int, harness.read(effects).split())) == ids
    for task in tasks.values():
        assert harness.read(task['log_path']) == f'begin {task["id"]}\nend {task["id"]}\n'


@pytest.mark.limit(240)
def test_five_kills_under_three_hundred_tasks(drover):
    effects = os.path.join(drover.work, 'effects')
    script = ('echo begin $PARALLEL_TASK_ID; sleep 0.0$(($PARALLEL_TASK_ID % 10)); echo $PARALLEL_TASK_ID >> effects; '
              'echo end $PARALLEL_TASK_ID')
    ids = drover.add('-j', 8, 'sh', '-c', script + ' # {}', ':::', *range(300))
    assert len(ids) == 300
    for count in (10, 60, 120, 180, 240):
        wait_lines(effects, count)
        pid = drover.kill_daemon()
        drover.wait_daemon(other_than=pid)
    assert drover.run('wait', '--all', limit_s=150).returncode == 0
    check_once(drover, ids, effects)


@pytest.mark.limit(150)
def test_killed_again_while_it_recovers(drover):
    """The second kill comes as soon as the new process is there, before it serves."""
    effects = os.path.join(drover.work, 'effects')
    script = 'echo begin $PARALLEL_TASK_ID; echo $PARALLEL_TASK_ID >> effects; echo end $PARALLEL_TASK_ID'
    ids = drover.add('-j', 4, 'sh', '-c', script + ' # {}', ':::', *range(100))
    wait_lines(effects, 20)
    keeper = drover.keeper_pid()
    killed = set()
    for _ in range(4):
        def next_daemon():
            found = [pid for pid in harness.children_of(keeper) if pid not in killed and
                     os.path.basename(harness.read_proc(pid, 'cmdline').split(b'\0')[0]) == b'drover-daemon']
            return found[0] if found else None
        pid = harness.wait_until(next_daemon, 30, 'a daemon is started')
        harness.signal_process(pid, signal.SIGKILL)
        killed.add(pid)
        harness.wait_gone(pid)
    drover.wait_daemon(limit_s=60)
    assert drover.run('wait', '--all', limit_s=90).returncode == 0
    check_once(drover, ids, effects)


@pytest.mark.limit(150)
def test_acknowledged_tasks_exist_after_a_kill(drover):
    """Killed right after the answer, again and again; what was not acknowledged is there whole or not at all."""
    acknowledged = []
    for _ in range(5):
        acknowledged += drover.add('true', ':::', *range(5))
        pid = drover.kill_daemon()
        drover.wait_daemon(other_than=pid)
    assert drover.run('wait', '--all', limit_s=60).returncode == 0
    assert [task['id'] for task in drover.tasks()] == acknowledged
    assert len(set(acknowledged)) == 25


@pytest.mark.limit(120)
def test_a_submission_across_a_kill_is_made_once(drover):
    """The client sends again with the same key when the daemon dies before it answers."""
    drover.start()
    for round_number in range(4):
        before = len(drover.tasks())
        client = drover.popen('add', 'true', ':::', *range(400))
        pid = drover.kill_daemon()
        drover.wait_daemon(other_than=pid)
        out, err = client.communicate(timeout=60)
        after = len(drover.tasks())
        if client.returncode == 0:
            assert after - before == 400, f'round {round_number}: {out[-200:]} {err}'
        else:
            assert after - before in (0, 400), f'round {round_number}: {err}'


@pytest.mark.limit(120)
def test_the_keeper_killed(drover):
    gate = drover.gate()
    task = drover.shell(f'echo before; {gate.wait}; echo after')
    drover.wait_state(task, 'running')
    keeper, leader, daemon = drover.keeper_pid(), drover.task(task)['pid'], drover.daemon_pid()
    harness.signal_process(keeper, signal.SIGKILL)
    harness.wait_gone(keeper)
    harness.wait_until(lambda: (drover.daemon_status() or {}).get('keeper_pid') not in (None, 0, keeper), 30,
                       'another keeper')
    assert harness.is_running(leader)
    assert drover.good('run', '--', 'echo', 'new') == 'new\n'
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['attempt']) == ('succeeded', 1)
    assert drover.log(task) == b'before\nafter\n'
    # and the new keeper starts the daemon again as the old one did
    pid = drover.daemon_pid()
    assert pid == daemon
    drover.kill_daemon()
    assert drover.wait_daemon(other_than=pid) != pid


@pytest.mark.limit(120)
def test_keeper_and_daemon_killed_at_once(drover):
    gate = drover.gate()
    task = drover.shell(f'echo before; {gate.wait}; echo after; exit 3')
    drover.wait_state(task, 'running')
    keeper, leader, daemon = drover.keeper_pid(), drover.task(task)['pid'], drover.daemon_pid()
    harness.signal_process(keeper, signal.SIGKILL)
    harness.signal_process(daemon, signal.SIGKILL)
    harness.wait_gone(keeper)
    harness.wait_gone(daemon)
    assert harness.is_running(leader)
    drover.start()
    assert drover.task(task)['pid'] == leader
    gate.open()
    done = drover.wait_final(task)
    assert (done['exit_code'], done['attempt']) == (3, 1)
    assert drover.log(task) == b'before\nafter\n'


@pytest.mark.limit(120)
def test_everything_of_ours_killed_at_once(drover):
    """Shims too: the tasks' exit statuses cannot be known, and that is what is said."""
    gate = drover.gate()
    task = drover.shell(f'{gate.wait}; touch effect')
    drover.wait_state(task, 'running')
    leader, shim = drover.task(task)['pid'], drover.shim_of(task)
    for pid in (drover.keeper_pid(), drover.daemon_pid(), shim):
        harness.signal_process(pid, signal.SIGKILL)
        harness.wait_gone(pid)
    drover.start()
    gate.open()
    harness.wait_gone(leader)
    done = drover.wait_final(task)
    assert done['state'] == 'lost' and done['cause'].startswith('lost')
    assert drover.good('run', '--', 'echo', 'works') == 'works\n'


@pytest.mark.limit(120)
def test_status_is_quick_after_a_kill_among_many(drover):
    """Serving again within a bound, with a thousand tasks known (built with sanitizers, so the bound is generous)."""
    drover.add('true', ':::', *range(1000))
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid, limit_s=10)
    assert drover.json('status')['problems'] == []
    assert len(drover.tasks()) == 1000
    drover.good('cancel', '--all')


@pytest.mark.limit(90)
def test_a_daemon_that_keeps_dying_is_started_with_patience(drover):
    """Five deaths in a row: the keeper waits longer each time instead of storming, and still comes back."""
    task = drover.add('--', 'true')[0]
    drover.wait_final(task)
    for _ in range(5):
        pid = drover.kill_daemon()
        drover.wait_daemon(other_than=pid, limit_s=40)
    assert drover.state_of(task) == 'succeeded'
    assert drover.count_running('drover-daemon') == 1
