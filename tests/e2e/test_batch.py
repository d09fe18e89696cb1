"""Batches: dependencies, retries, time limits, and what is refused before anything starts."""
import os
import re

import pytest

import harness


def batch(drover, text):
    return harness.write(os.path.join(drover.work, 'batch.yaml'), text)


def by_name(drover):
    return {task['name']: task for task in drover.tasks()}


def test_dependencies_give_the_order(drover):
    batch(drover, '''
tasks:
  - {name: last, run: "echo last >> order", after: [left, right]}
  - {name: left, run: "echo left >> order", after: first}
  - {name: right, run: "echo right >> order", after: first}
  - {name: first, run: "echo first >> order"}
''')
    drover.good('run', '-f', 'batch.yaml')
    order = harness.read(os.path.join(drover.work, 'order')).split()
    assert order[0] == 'first' and order[-1] == 'last' and len(order) == 4


def test_a_failed_dependency_skips_with_its_cause(drover):
    batch(drover, '''
name: chain
tasks:
  - {name: breaks, run: "exit 3"}
  - {name: needs, run: "true", after: breaks}
  - {name: needs-that, run: "true", after: needs}
  - {name: anyhow, run: "touch anyhow", afterAny: [breaks, needs-that]}
''')
    assert drover.run('run', '-f', 'batch.yaml').returncode == 1
    tasks = by_name(drover)
    assert tasks['breaks']['cause'] == 'exit 3'
    assert tasks['needs']['state'] == tasks['needs-that']['state'] == 'skipped'
    root = f'skipped: #{tasks["breaks"]["id"]} failed'
    assert tasks['needs']['cause'] == tasks['needs-that']['cause'] == root
    assert tasks['anyhow']['state'] == 'succeeded'
    assert os.path.exists(os.path.join(drover.work, 'anyhow'))


def test_reference_by_batch_and_name(drover):
    batch(drover, 'name: nightly\ntasks:\n  - {name: build, run: "true"}\n')
    drover.good('run', '-f', 'batch.yaml')
    assert drover.task('nightly/build')['name'] == 'build'
    later = drover.add('--after', 'nightly/build', '--', 'true')[0]
    assert drover.wait_final(later)['state'] == 'succeeded'


def test_retries_until_success(drover):
    batch(drover, '''
tasks:
  - name: flaky
    run: "echo try >> tries; test $(wc -l < tries) -ge 3"
    retries: 5
    retryDelay: 10ms
''')
    drover.good('run', '-f', 'batch.yaml')
    task = drover.task('flaky')
    assert (task['state'], task['attempt']) == ('succeeded', 3)
    assert harness.read(os.path.join(drover.work, 'tries')) == 'try\n' * 3


def test_retries_end(drover):
    batch(drover, 'tasks:\n  - {name: bad, run: "echo x >> tries; exit 9", retries: 2, retryDelay: 10ms}\n')
    assert drover.run('run', '-f', 'batch.yaml').returncode == 1
    task = drover.task('bad')
    assert (task['state'], task['attempt'], task['cause']) == ('failed', 3, 'exit 9')
    assert harness.read(os.path.join(drover.work, 'tries')) == 'x\n' * 3


def test_the_output_of_each_attempt_is_kept(drover):
    task = drover.add('--retries', 2, '--retry-delay', '10ms', 'echo attempt $DROVER_ATTEMPT; test $DROVER_ATTEMPT = 3')[0]
    assert drover.wait_final(task)['attempt'] == 3
    assert [drover.good('logs', '--attempt', number, task) for number in (1, 2, 3)] == \
        [f'attempt {number}\n' for number in (1, 2, 3)]
    assert drover.good('logs', task) == 'attempt 3\n'
    drover.bad(2, 'logs', '--attempt', 4, task, says='has no attempt 4')
    drover.bad(2, 'logs', '-f', '--attempt', 1, task, says='not both')


def test_retry_by_hand(drover):
    task = drover.shell('test -e fixed')
    assert drover.wait_final(task)['state'] == 'failed'
    harness.write(os.path.join(drover.work, 'fixed'), '')
    drover.good('retry', task)
    done = drover.wait_state(task, 'succeeded')
    assert done['attempt'] == 2


def test_a_retry_wakes_up_who_was_skipped_when_asked(drover):
    first = drover.shell('test -e fixed')
    second = drover.add('--after', str(first), '--', 'true')[0]
    assert drover.wait_final(second)['state'] == 'skipped'
    harness.write(os.path.join(drover.work, 'fixed'), '')
    drover.good('retry', first, second)
    assert drover.wait_state(second, 'succeeded')['state'] == 'succeeded'


def test_time_limit(drover):
    done = drover.run('run', '--timeout', '300ms', '--', 'sh', '-c', 'echo begun; exec sleep 1000')
    assert done.returncode != 0
    assert done.stdout == 'begun\n'
    task = drover.task(1)
    assert task['state'] == 'timed_out' and 'timeout after' in task['cause']


def test_time_limit_of_a_batch_file(drover):
    batch(drover, 'defaults: {timeout: 200ms, grace: 100ms}\ntasks:\n  - {name: long, run: "sleep 1000"}\n'
                  '  - {name: short, run: "true"}\n')
    assert drover.run('run', '-f', 'batch.yaml').returncode == 1
    assert {name: task['state'] for name, task in by_name(drover).items()} == {'long': 'timed_out', 'short': 'succeeded'}


def test_priorities_go_first(drover):
    gate = drover.gate()
    batch(drover, f'''
limit: 1
tasks:
  - {{name: first, run: "{gate.wait}"}}
  - {{name: low, run: "echo low >> order", priority: P2}}
  - {{name: normal, run: "echo normal >> order"}}
  - {{name: high, run: "echo high >> order", priority: P0}}
''')
    drover.good('add', '-f', 'batch.yaml')
    drover.wait_state('first', 'running')
    gate.open()
    assert drover.run('wait', '--all').returncode == 0
    assert harness.read(os.path.join(drover.work, 'order')).split() == ['high', 'normal', 'low']


def test_environment_and_defaults(drover):
    batch(drover, '''
defaults: {env: {A: "1", B: "2"}}
tasks:
  - {name: t, run: 'echo "$A $B $C"', env: {B: "x y", C: "3"}}
''')
    assert drover.good('run', '-f', 'batch.yaml', '-k').endswith('1 x y 3\n')


def test_batch_from_standard_input(drover):
    drover.good('run', '-f', '-', input='tasks:\n  - {name: here, run: [touch, "a b"]}\n')
    assert os.path.exists(os.path.join(drover.work, 'a b'))


BAD_FILES = [
    ('twice', 'tasks:\n  - {name: a, run: "true"}\n  - {name: a, run: "true"}\n', ['a', 'batch.yaml:3:']),
    ('missing', 'tasks:\n  - {name: a, run: "true", after: [nobody]}\n', ['nobody', 'batch.yaml:2:']),
    ('circle', 'tasks:\n  - {name: a, run: x, after: b}\n  - {name: b, run: x, after: c}\n  - {name: c, run: x, after: a}\n',
     ['a -> b -> c -> a']),
    ('itself', 'tasks:\n  - {name: a, run: x, after: a}\n', ['a']),
    ('unknown key', 'tasks:\n  - {name: a, run: x, timeuot: 3s}\n', ['timeuot', 'timeout', 'batch.yaml:2:']),
    ('unknown top key', 'taks: []\n', ['taks', 'tasks', 'batch.yaml:1:']),
    ('no yaml', 'tasks:\n  - {name: a, run: "true"\n  - b\n', ['batch.yaml:3:', '- b']),
    ('tab', 'tasks:\n\t- run: x\n', ['batch.yaml:2:']),
    ('not a duration', 'tasks:\n  - {run: x, timeout: soon}\n', ['soon', 'batch.yaml:2:']),
    ('no unit', 'tasks:\n  - {run: x, timeout: 30}\n', ['30', 'unit']),
    ('bad name', 'tasks:\n  - {name: "a/b", run: x}\n', ['a/b', 'batch.yaml:2:']),
    ('nothing to run', 'tasks:\n  - {name: a}\n', ['run', 'batch.yaml:2:']),
    ('empty', 'tasks: []\n', ['empty']),
    ('text for retries', 'tasks:\n  - {run: x, retries: often}\n', ['often']),
    ('key twice', 'tasks:\n  - {run: x, run: y}\n', ['run']),
]


@pytest.mark.parametrize('text, words', [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES])
def test_a_bad_file_is_refused_whole(drover, text, words):
    batch(drover, text)
    said = drover.bad(2, 'run', '-f', 'batch.yaml', says=words)
    assert drover.tasks() == [], said


def test_the_offending_line_is_shown(drover):
    batch(drover, 'tasks:\n  - name: a\n   run: x\n')
    said = drover.bad(2, 'run', '-f', 'batch.yaml')
    assert re.search(r'batch\.yaml:3:\d+', said) and '   run: x' in said


def test_unknown_dependency_on_the_command_line(drover):
    drover.bad(2, 'add', '--after', '4711', '--', 'true', says='4711')
    assert drover.tasks() == []


def test_same_batch_name_while_it_runs(drover):
    gate = drover.gate()
    batch(drover, f'name: nightly\ntasks:\n  - {{name: a, run: "{gate.wait}"}}\n')
    drover.good('add', '-f', 'batch.yaml')
    drover.bad(2, 'add', '-f', 'batch.yaml', says='nightly')
    assert len(drover.tasks()) == 1
    gate.open()
    drover.wait_final(1)
    drover.good('run', '-f', 'batch.yaml')


@pytest.mark.limit(120)
def test_a_thousand_tasks_with_dependencies(drover):
    rows = [f'  - {{name: t{i}, run: ["true"]' + (f', after: t{i - 10}' if i >= 10 else '') + '}\n' for i in range(1000)]
    batch(drover, 'tasks:\n' + ''.join(rows))
    drover.good('run', '-f', 'batch.yaml', '-j', 8, limit_s=110)
    assert {task['state'] for task in drover.tasks()} == {'succeeded'}
