"""pause and unpause: nothing new starts, over restarts and kill -9 too; with --suspend nothing runs either."""
import json
import os

import pytest

import harness


def pauses(drover):
    return drover.json('status')['pauses']


def held(drover, *options):
    """A task that runs until its gate opens."""
    gate = drover.gate(f'gate{len(drover.gates)}')
    task = drover.shell(f'{gate.wait}; echo done', '-j', 8, *options)
    drover.wait_state(task, 'running')
    return task, gate


def test_nothing_starts_until_unpause(drover):
    running, gate = held(drover)
    said = drover.good('pause', 'lunch', 'break', env={'LOGNAME': 'somebody', 'PARALLEL_TASK_ID': None})
    assert 'paused everything' in said and 'lunch break' in said and 'somebody' in said
    done = drover.run('add', '--', 'true')
    assert done.returncode == 0 and 'drover unpause' in done.stderr
    waiting = drover.tasks()[-1]['id']
    status = drover.json('status')
    assert (status['is_paused'], status['queued'], status['running']) == (True, 1, 1)
    assert [(p['batch'], p['who'], p['reason'], p['is_suspending']) for p in status['pauses']] == \
        [(None, 'somebody', 'lunch break', False)]
    assert drover.json('why', waiting)['wait']['reason'] == 'user-hold'
    why = drover.good('why', waiting)
    assert 'everything is paused since 20' in why and 'by somebody: lunch break' in why
    assert 'paused' in drover.good('ls') and 'user-hold' not in drover.good('ls')
    assert 'paused' in drover.good('status') and 'lunch break' in drover.good('status')
    gate.open()
    assert drover.wait_final(running)['state'] == 'succeeded'  # what runs goes on
    assert drover.state_of(waiting) == 'queued'
    assert 'no longer paused: everything' in drover.good('unpause')
    assert drover.wait_final(waiting)['state'] == 'succeeded'
    assert pauses(drover) == []
    assert 'nothing' in drover.good('unpause')


def test_a_pause_outlives_the_daemon(drover):
    drover.start()
    drover.good('pause', 'over night')
    since = pauses(drover)[0]['since']
    task = drover.shell('true')
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    drover.good('daemon', 'restart')
    drover.good('daemon', 'stop')
    assert drover.state_of(task) == 'queued'
    assert [(p['since'], p['reason']) for p in pauses(drover)] == [(since, 'over night')]
    drover.good('pause', 'and longer')
    assert [(p['since'], p['reason']) for p in pauses(drover)] == [(since, 'and longer')]
    drover.good('unpause')
    assert drover.wait_final(task)['state'] == 'succeeded'
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    assert pauses(drover) == []


def test_pause_of_one_batch(drover):
    drover.start()
    first = drover.shell('true', '--hold', '--batch', 'nightly')
    assert 'batch nightly' in drover.good('pause', '--batch=nightly', 'the disk is full')
    drover.good('release', first)
    other = drover.shell('true')
    assert drover.wait_final(other)['state'] == 'succeeded'
    shown = drover.task(first)
    assert (shown['state'], shown['reason']) == ('queued', 'batch-paused')
    assert 'the disk is full' in shown['wait']['text']
    assert not drover.json('status')['is_paused']
    assert [p['batch_name'] for p in pauses(drover)] == ['nightly']
    drover.bad(2, 'pause', '--batch=nowhere', says='there is no batch')
    drover.good('pause')
    assert [p['batch_name'] for p in pauses(drover)] == [None, 'nightly']
    assert 'still paused: batch nightly' in drover.good('unpause')
    assert drover.state_of(first) == 'queued'
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    assert drover.task(first)['reason'] == 'batch-paused'
    drover.good('unpause', '--batch', 'nightly')
    assert drover.wait_final(first)['state'] == 'succeeded'


def test_a_forgotten_batch_leaves_no_pause_behind(drover):
    task = drover.shell('true', '--batch', 'nightly')
    drover.wait_final(task)
    drover.good('pause', '--batch=nightly')
    drover.good('clean', '--all')
    assert pauses(drover) == []
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    assert pauses(drover) == []


def test_suspend_and_resume_exactly_those(drover):
    one, gate_one = held(drover)
    two, gate_two = held(drover, '--batch', 'nightly')
    three, gate_three = held(drover)
    drover.good('suspend', three, '--reason', 'by hand')
    said = drover.good('pause', '--suspend', 'backup')
    assert 'suspended 2 tasks' in said and 'what ran is suspended' in said
    assert {drover.state_of(task) for task in (one, two, three)} == {'suspended'}
    assert 'backup' in drover.good('why', one) and 'by hand' in drover.good('why', three)
    for gate in (gate_one, gate_two, gate_three):
        gate.open()
    drover.good('resume', two)  # the user's word about one task counts more
    assert drover.wait_final(two)['state'] == 'succeeded'
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    assert drover.state_of(one) == 'suspended'
    assert 'resumed 1 task\n' in drover.good('unpause')
    assert drover.wait_final(one)['state'] == 'succeeded'
    assert drover.state_of(three) == 'suspended'
    drover.good('resume', three)
    done = drover.wait_final(three)
    assert (done['state'], done['cause'], done['attempt']) == ('succeeded', 'exit 0', 1)


@pytest.mark.parametrize('place', ['decided_not_committed:2', 'committing:2', 'suspend_intent:2', 'frozen_not_recorded:2'])
def test_killed_while_pausing(make_drover, place):
    """All of a pause is remembered, or nothing of it: then the client's second try makes it."""
    drover = make_drover()
    once = os.path.join(drover.folder, 'once')
    tasks = [held(drover) for _ in range(3)]
    drover.good('daemon', 'stop')
    drover.environment.update({'DROVER_FAIL': place, 'DROVER_FAIL_ONCE': once})
    drover.start()
    drover.run('pause', '--suspend', 'now')
    harness.wait_until(lambda: os.path.exists(once), 20, f'{place} is reached')
    drover.wait_daemon()
    drover.good('pause', '--suspend', 'now')
    assert {drover.state_of(task) for task, _ in tasks} == {'suspended'}
    for _, gate in tasks:
        gate.open()
    drover.good('unpause')
    assert {drover.wait_final(task)['state'] for task, _ in tasks} == {'succeeded'}


def test_events_tell_of_a_pause(drover):
    drover.start()
    raw = drover.connect()
    raw.call('events.subscribe', {})
    drover.good('pause', 'why not')
    drover.good('unpause')
    seen = [json.loads(raw.line())['params'] for _ in range(2)]
    assert [(event['kind'], event['batch'], event['task'], event['state']) for event in seen] == \
        [('paused', None, None, None), ('unpaused', None, None, None)]
    replay = drover.connect()
    replay.call('events.subscribe', {'after_seq': seen[0]['seq'] - 1})
    assert [json.loads(replay.line())['params']['kind'] for _ in range(2)] == ['paused', 'unpaused']
    raw.close()
    replay.close()


def test_stopping_with_everything_paused(drover):
    """daemon stop --stop-tasks ends what a pause suspended; the pause is still there afterwards."""
    task, _ = held(drover)
    waiting = drover.shell('true', '--hold')
    drover.good('pause', '--suspend')
    drover.good('release', waiting)
    drover.good('daemon', 'stop', '--stop-tasks')
    drover.start()
    assert (drover.state_of(task), drover.state_of(waiting)) == ('cancelled', 'cancelled')
    assert len(pauses(drover)) == 1
    later = drover.shell('true')
    assert drover.state_of(later) == 'queued'
    drover.good('unpause')
    assert drover.wait_final(later)['state'] == 'succeeded'
