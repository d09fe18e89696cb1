"""The command line with bad input, and what it shows: one clear sentence, an exit status, nothing half done. DESIGN 6.1."""
import json
import os

import pytest

import harness


def nothing_was_queued(drover):
    """Looks without starting a daemon where none runs."""
    return drover.daemon_status() is None or drover.tasks() == []


# -- usage ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('arguments, words', [
    ([], ['give a command']),
    (['rnu', 'true'], ["unknown command 'rnu'", "'run'"]),
    (['daemon', 'stat'], ["unknown command 'daemon stat'", 'daemon']),
    (['daemon'], ["'drover daemon' needs one of: start, stop, restart, status"]),
    (['--jobs', '3', 'run', 'true'], ['unknown option --jobs', 'options follow the command']),
    (['run', '--'], ['no command was given']),
    (['run', '-j'], ['-j needs a value']),
    (['run', '-j', '0', 'true'], ["-j: '0'"]),
    (['run', '-j', '5000', 'true'], ["-j: '5000'", '4096']),
    (['run', '--quiet=yes', 'true'], ['--quiet takes no value']),
    (['run', '-Z', 'true'], ['unknown option -Z']),
    (['run', '--timeout', '30', 'true'], ['--timeout', 'no unit']),
    (['run', '--retries', '-1', 'true'], ["--retries: '-1'"]),
    (['run', '--priority', 'P7', 'true'], ["'P7' is not P0, P1 or P2"]),
    (['run', '--worktree=sometimes', 'true'], ["'sometimes' is not none, auto or checkout"]),
    (['run', '--progress', 'loud', 'true'], ["'loud' is not bar, plain, json or none"]),
    (['run', '--env', '=x', 'true'], ["'=x' has no name"]),
    (['run', '--cwd', 'absent', 'true'], ['absent', 'No such file']),
    (['run', '--name', 'a/b', 'true'], ["'a/b' is no name"]),
    (['run', '--name', 'one', 'echo', ':::', 'a', 'b'], ["'one-{#}'"]),
    (['run', 'echo', '{2}', ':::', 'a'], ['{2}']),
    (['run', '-f', 'x.yaml', 'true'], ['cannot be given together with -f']),
    (['run', '-f', 'x.yaml', '--name', 'a'], ['--name cannot be given together with -f']),
    (['show'], ['give one task; 0 were given']),
    (['show', '1', '2'], ['give one task; 2 were given']),
    (['ls', '1'], ["unexpected '1'", 'drover show 1']),
    (['wait'], ['name the tasks, or give --batch or --all']),
    (['wait', '1', '--all'], ['but one of them']),
    (['cancel'], ['name the tasks']),
    (['retry', '--batch', 'x', '--all'], ['but one of them']),
    (['clean'], ['--older-than']),
    (['clean', '--older-than', 'monday'], ["'monday' is no duration"]),
    (['logs', '-n', 'few', '1'], ["--lines: 'few'"]),
    (['help', 'frobnicate'], ["unknown command 'frobnicate'"]),
])
def test_usage_is_refused_without_a_daemon(drover, arguments, words):
    drover.bad(2, *arguments, says=words)
    assert drover.count_running('drover-daemon') == 0


@pytest.mark.parametrize('command', ['run', 'add', 'ls', 'show', 'why', 'logs', 'wait', 'cancel', 'retry', 'release',
                                     'status', 'daemon start', 'daemon stop', 'daemon restart', 'daemon status', 'clean',
                                     'doctor', 'version'])
def test_help_of_each_command(drover, command):
    said = drover.good(*command.split(), '--help')
    assert said.startswith(f'Usage: drover {command}') and '--help' in said
    assert drover.good('help', *command.split()) == said
    assert max(len(line) for line in said.splitlines()) <= 120
    assert drover.count_running('drover-daemon') == 0


def test_an_unknown_task_or_batch(drover):
    drover.good('run', '--name', 'first', 'true')
    for arguments in (['show', '99'], ['why', '99'], ['logs', '99'], ['cancel', '99'], ['retry', 'nobody'],
                      ['release', '99'], ['wait', '1', '99'], ['wait', '--batch', 'nobody'], ['ls', '--batch', 'nobody'],
                      ['clean', '99'],
                      ['show', 'nobody/first'], ['show', '0'], ['show', '99999999999999999999999'], ['show', '']):
        done = drover.run(*arguments)
        assert done.returncode == 2, (arguments, done)
        assert done.stderr.startswith('drover: ') and len(done.stderr) < 500, (arguments, done.stderr)


def test_a_task_named_with_a_number_sign(drover):
    drover.good('run', 'true')
    assert drover.task('#1')['id'] == 1


# -- bytes ------------------------------------------------------------------------------------------------------------

def test_words_and_values_that_are_no_utf8(drover):
    done = drover.run('run', '-k', os.fsdecode(b'printf'), '%s\n', ':::', os.fsdecode(b'a\xff\xfe'), 'ä', text=False)
    assert done.stdout == b'a\xff\xfe\n\xc3\xa4\n', done


def test_an_environment_that_is_no_utf8(drover):
    done = drover.run('run', '--', 'sh', '-c', 'printf %s "$RAW"', env={'RAW': os.fsdecode(b'x\xff=y')}, text=False)
    assert done.stdout == b'x\xff=y', done


def test_a_task_too_large_for_a_message(drover):
    """A single argument of 128 KiB the kernel refuses; many of them together make too large a message."""
    words = ['x' * 100000] * 12
    drover.bad(2, 'run', 'true', *words, says=['1048576', 'file'])
    assert nothing_was_queued(drover)


def test_values_with_nul(drover):
    assert drover.good('run', '-k', '-0', '-a', '-', 'printf', '<%s>', input=b'a\nb\0c\0') == '<a\nb><c>'
    drover.bad(2, 'run', '-a', '-', 'echo', input=b'a\0b\n', says=['NUL', '-0'])


def test_listings_larger_than_a_message(drover):
    """Pages are cut by their size too, for ls and for Ctrl-C alike."""
    ids = drover.add('--hold', 'echo', 'x' * 20000, ':::', *range(200))
    listed = drover.json('ls')['tasks']
    assert [task['id'] for task in listed] == ids and len(listed[-1]['command'][1]) == 20000


def test_no_values_is_nothing_to_run(drover):
    assert 'nothing to run' in drover.run('run', '-a', '/dev/null', 'echo').stderr
    assert drover.good('run', '-a', '/dev/null', 'echo') == ''
    report = json.loads(drover.good('run', '--json', '-a', '/dev/null', 'echo'))
    assert (report['tasks'], report['succeeded'], report['batch']) == (0, 0, None)
    assert nothing_was_queued(drover)


def test_values_of_two_sources(drover):
    assert drover.good('run', '-k', 'echo', '{2}{1}', ':::', 'a', 'b', ':::', '1', '2') == '1a\n2a\n1b\n2b\n'


# -- batch files ------------------------------------------------------------------------------------------------------

def test_an_alias_bomb(drover):
    rows = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n']
    rows += [f'a{i}: &a{i} [' + ','.join([f'*a{i - 1}'] * 10) + ']\n' for i in range(1, 40)]
    harness.write(os.path.join(drover.work, 'bomb.yaml'), ''.join(rows))
    drover.bad(2, 'run', '-f', 'bomb.yaml', says=['bomb.yaml:', 'aliases'], limit_s=20)


@pytest.mark.parametrize('path, words', [
    ('/dev/zero', ['/dev/zero', 'no regular file']),
    ('.', ['no regular file']),
    ('absent.yaml', ['absent.yaml', 'No such file']),
])
def test_a_batch_file_that_is_none(drover, path, words):
    drover.bad(2, 'run', '-f', path, says=words)
    assert drover.count_running('drover-daemon') == 0


def test_options_go_over_the_file(drover):
    harness.write(os.path.join(drover.work, 'b.yaml'), 'tasks:\n  - {name: a, run: "echo $X", retries: 3}\n')
    drover.good('run', '-f', 'b.yaml', '--retries', 0, '--batch', 'mine', '--env', 'X=1')
    assert drover.json('show', 'mine/a')['spec'].get('retries') == 0
    assert drover.log('mine/a') == b'1\n'


# -- the repository's settings ----------------------------------------------------------------------------------------

def test_the_repository_tightens(drover):
    repository = harness.make_repository(os.path.join(drover.work, 'repo'), {
        '.parallel.yaml': 'maxParallel: 1\nlimits: {hardMaxConcurrent: 2, defaultTimeout: 200}\n', 'below/x': ''})
    below = os.path.join(repository, 'below')
    done = drover.run('run', '--', 'sleep', '1000', cwd=below)
    assert done.returncode == 1 and 'timed_out' in done.stderr
    done = drover.run('run', '-j', 7, '--timeout', '1m', 'true', cwd=below)
    assert done.returncode == 0 and 'hardMaxConcurrent' in done.stderr


def test_the_repositorys_faults_are_shown(drover):
    repository = harness.make_repository(os.path.join(drover.work, 'repo'), {'.parallel.yaml': 'maxParalel: 1\n'})
    drover.bad(2, 'run', 'true', cwd=repository, says=['.parallel.yaml:1:1:', "did you mean 'maxParallel'?"])
    harness.write(os.path.join(repository, '.parallel.yaml'), 'keep: {days: 1}\n')
    drover.bad(2, 'run', 'true', cwd=repository, says=['.parallel.yaml:1:8:', 'not for a repository'])
    assert nothing_was_queued(drover)


# -- what is shown ----------------------------------------------------------------------------------------------------

TASK_FIELDS = ['id', 'name', 'batch', 'state', 'cause', 'reason', 'priority', 'attempt', 'exit_code', 'signal', 'command',
               'worktree', 'branch', 'base', 'log_path', 'created_at', 'started_at', 'ended_at', 'duration_s',
               'peak_memory_bytes', 'cpu_s']


def test_ls_json_is_the_tasks_and_nothing_else(drover):
    drover.add('--hold', 'true')
    listed = drover.json('ls')
    assert list(listed) == ['tasks']
    task = listed['tasks'][0]
    assert [name for name in TASK_FIELDS if name not in task] == []
    assert (task['state'], task['name'], task['started_at'], task['exit_code']) == ('held', None, None, None)
    shown = drover.json('show', 1)
    assert [name for name in TASK_FIELDS if name not in shown] == [] and 'spec' in shown and 'wait' in shown


def test_ls_fits_the_terminal(drover):
    drover.add('--hold', 'echo', 'x' * 500)
    shown = drover.run_on_terminal('ls')
    lines = shown.replace(b'\x1b[36m', b'').replace(b'\x1b[0m', b'').decode().splitlines()
    assert max(len(line) for line in lines) <= 80 and '…' in lines[1]
    assert 'x' * 500 in drover.good('ls')


def test_no_colours_where_none_are_wanted(drover):
    drover.run('run', 'false')
    assert b'\x1b[31m' in drover.run_on_terminal('ls', '--all')
    drover.environment['NO_COLOR'] = '1'
    assert b'\x1b' not in drover.run_on_terminal('ls', '--all')


def test_plain_progress_of_a_batch_file(drover):
    harness.write(os.path.join(drover.work, 'b.yaml'),
                  'name: nightly\ntasks:\n  - {name: lint, run: "echo out"}\n  - {name: bad, run: "exit 3", after: lint}\n')
    done = drover.run('run', '-f', 'b.yaml')
    assert done.returncode == 1 and done.stdout == 'out\n'
    assert '#1 lint started\n' in done.stderr and '#1 lint succeeded' in done.stderr and '#2 bad failed' in done.stderr
    assert 'exit 3' in done.stderr
    table = done.stderr[done.stderr.index('TASK '):].splitlines()
    assert table[0].split() == ['TASK', 'STATE', 'TIME', 'PEAK', 'MEMORY', 'CHANGED', 'FILES', 'BRANCH']
    assert table[1].split()[:2] == ['lint', 'succeeded'] and table[2].split()[:2] == ['bad', 'failed']
    assert table[3].startswith('2 tasks: 1 succeeded, 1 failed in ')
    assert drover.run('run', '-q', '-f', 'b.yaml').stderr == ''


def test_json_progress(drover):
    done = drover.run('run', '--progress=json', 'sh', '-c', 'exit {}', ':::', '0', '4')
    events = [json.loads(line) for line in done.stderr.splitlines()]
    ends = {event['task']: event['state'] for event in events if event['state'] in harness.FINAL_STATES}
    assert ends == {1: 'succeeded', 2: 'failed'} and 'running' in [event['state'] for event in events]


def test_live_progress_leaves_a_clean_terminal(drover):
    shown = drover.run_on_terminal('run', '-j', 2, 'echo', 'value-{}', ':::', *range(5)).decode()
    assert all(f'value-{number}\r\n' in shown for number in range(5))
    assert '5 tasks: 5 succeeded in ' in shown
    assert shown.rindex('5 tasks:') > shown.rindex('/5')  # nothing is drawn behind the summary


def test_tags(drover):
    assert drover.good('run', '-k', '--tag', 'printf "1\\n2" #', ':::', 'a', 'b') == 'a\t1\na\t2\nb\t1\nb\t2\n'


def test_split_output_keeps_streams_apart(drover):
    done = drover.run('run', '--split-output', '--', 'sh', '-c', 'echo out; echo err >&2')
    assert (done.stdout, done.stderr) == ('out\n', 'err\n')


def test_a_task_that_cannot_start_is_told_from_127(drover):
    done = drover.run('run', '--', './no-such-program')
    assert done.returncode == 1 and 'failed' in done.stderr and done.stdout == ''


def test_logs_of_a_part(drover):
    task = drover.shell('seq 1 100')
    drover.wait_final(task)
    assert drover.good('logs', '-n', 2, task) == '99\n100\n'
    assert drover.good('logs', '-n', 0, task) == ''
    held = drover.add('--hold', 'true')[0]
    assert 'has not run' in drover.run('logs', held).stderr


def test_full_standard_output_is_an_error(drover):
    with open('/dev/full', 'wb') as full:
        done = drover.run('version', stdout=full)
    assert done.returncode == 1 and 'cannot write to standard output' in done.stderr


def test_release_lets_a_held_task_go(drover):
    task = drover.add('--hold', 'echo', 'x')[0]
    assert 'held' in drover.good('why', task)
    drover.good('release', task)
    assert drover.run('wait', task).returncode == 0


def test_doctor(drover):
    report = drover.json('doctor')
    rows = {row['name']: row for row in report['rows']}
    assert report['ok'] is True and rows['state directory']['state'] == 'ok'
    assert {'drover', 'kernel', 'daemon'} <= set(rows) and len(rows) > 5
    assert 'all is well' in drover.good('doctor')
    os.chmod(drover.state, 0o755)
    assert '755' in drover.run('doctor').stdout and drover.run('doctor').returncode == 1
    os.chmod(drover.state, 0o700)


def test_version(drover):
    assert drover.good('version') == drover.good('--version')
    assert drover.json('version')['protocol'] == 1
    assert drover.count_running('drover-daemon') == 0
