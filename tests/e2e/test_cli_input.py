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
    (['run', '-w=sometimes', 'true'], ["'sometimes' is not none, auto or checkout"]),
    (['run', '--base', 'HEAD', 'true'], ['--base', 'give -w too']),
    (['run', '--base', 'HEAD', '-wnone', 'true'], ['--base', 'give -w too']),
    (['run', '--env', '1A=3', 'true'], ["--env: '1A=3'", 'letters, digits and _']),
    (['run', '--env', 'A-B', 'true'], ["--env: 'A-B'"]),
    (['run', '--timeout', '1h30', 'true'], ['--timeout', 'write 1h30m']),
    (['run', '--timeout', '10m5', 'true'], ['write 10m5s']),
    (['ls', '--state', 'running,flying'], ["'flying' is not held, blocked, queued", ' or skipped']),
    (['run', '--name', '4711', 'true'], ["'4711' is no name", 'not digits alone']),
    (['run', '--name', '.x', 'true'], ['not beginning with . or -']),
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
    ids = drover.add('--hold', 'echo', 'x' * 15000, ':::', *range(200))
    listed = drover.json('ls')['tasks']
    assert [task['id'] for task in listed] == ids and len(listed[-1]['command'][1]) == 15000


def test_no_values_is_nothing_to_run(drover):
    assert 'nothing to run' in drover.run('run', '-a', '/dev/null', 'echo').stderr
    assert drover.good('run', '-a', '/dev/null', 'echo') == ''
    report = json.loads(drover.good('run', '--json', '-a', '/dev/null', 'echo'))
    assert (report['tasks'], report['succeeded'], report['batch']) == (0, 0, None)
    assert nothing_was_queued(drover)


def test_a_placeholder_without_values_is_told(drover):
    for arguments, is_told in ((['echo', '{}'], True), (['-q', 'echo', '{}'], False), (['echo', '{}', ':::', '{}'], False)):
        done = drover.run('run', *arguments)
        assert (done.returncode, done.stdout) == (0, '{}\n')
        assert ("'{}' stands for itself" in done.stderr) == is_told, done.stderr


def test_numbers_are_shown_as_they_were_meant(drover):
    drover.good('run', 'true')
    shown = []
    for _ in range(5):
        json.loads(drover.good('daemon', 'status', '--json'), parse_float=shown.append)
    assert len(shown) == 5 and max(len(text.partition('.')[2]) for text in shown) <= 3, shown


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


def test_a_program_that_cannot_start_has_a_shells_status_and_its_own_sentence(drover):
    """127 and 126 as a shell gives, but told from a program that ends so itself."""
    for words, status in ((['./no-such-program'], 127), (['nosuchcommand-of-drover'], 127), ([drover.work], 126)):
        said = drover.bad(status, 'run', '--', *words, says='failed to start')
        assert words[0] in said
    done = drover.run('run', '--', 'sh', '-c', 'exit 127')
    assert (done.returncode, done.stderr) == (127, '')
    assert drover.run('run', '-q', '--', 'false', ':::', '1').returncode == 1
    assert drover.tasks()[0]['start_error'] == 'ENOENT'


def test_commands_that_are_no_utf8_are_shown_by_their_bytes(drover):
    done = drover.run('run', '--name', 'latin', '--', 'printf', '%s', 'caf\udce9', text=False)
    assert (done.returncode, done.stdout) == (0, b'caf\xe9')
    assert drover.task('latin')['command'] == ['printf', '%s', 'caf\\xe9']
    assert 'caf\\xe9' in drover.good('ls') and 'caf\\xe9' in drover.good('show', 'latin')
    drover.good('run', '--name', 'mixed', '--', 'true', 'naïve', '\udcff')
    assert drover.task('mixed')['command'] == ['true', 'naïve', '\\xff']


def test_a_directory_that_is_no_utf8_is_refused_plainly(drover):
    folder = os.path.join(drover.folder.encode(), b'caf\xe9')
    os.mkdir(folder)
    drover.bad(2, 'run', 'true', cwd=folder, says=['caf\\xe9', 'is not valid UTF-8', '--cwd'])
    assert nothing_was_queued(drover)
    drover.good('run', '--cwd', drover.work, 'true', cwd=folder)


def test_standard_input_of_tasks_can_be_ours(drover):
    path = harness.write(os.path.join(drover.folder, 'input'), 'read me\n')
    with open(path, 'rb') as file:
        assert drover.good('run', '--stdin', '-', 'cat', stdin=file) == 'read me\n'
        file.read(3)
        os.lseek(file.fileno(), 3, os.SEEK_SET)
        drover.bad(2, 'run', '--stdin=-', 'cat', stdin=file, says='has been read already')
    os.mkdir(os.path.join(drover.work, 'inner'))
    harness.write(os.path.join(drover.work, 'inner', 'there'), 'found\n')
    before = len(drover.tasks('--all'))
    for given, words in (('/nope', "'/nope'"), ('there', 'there'), ('inner', 'is a directory')):
        drover.bad(2, 'run', '--stdin', given, 'cat', says=['--stdin', words])
    assert len(drover.tasks('--all')) == before
    assert drover.good('run', '--cwd', 'inner', '--stdin', 'there', 'cat') == 'found\n'
    first = drover.add('--hold', '--', 'sh', '-c', 'echo made > later')[0]
    second = drover.add('--after', first, '--stdin', 'later', 'cat')[0]  # it cannot be there yet
    drover.good('release', first)
    assert drover.wait_final(second)['state'] == 'succeeded'
    drover.bad(2, 'run', '--stdin=-', 'cat', input='from a pipe', says=['no file with a name', 'write it to a file first'])
    assert drover.good('run', '--stdin', '-', 'cat') == ''  # /dev/null


def test_short_option_with_a_value_that_may_be_left_out(drover, repository):
    for option in ('-wcheckout', '-w=checkout', '-w', '--worktree', '--worktree=checkout'):
        assert '.parallel-worktrees' in drover.good('run', option, '--', 'pwd'), option
    for option in ('-wnone', '-w=none', '-w=auto'):
        assert ('.parallel-worktrees' in drover.good('run', option, '--', 'pwd')) == ('auto' in option)
    assert '.parallel-worktrees' in drover.good('run', '-wk', '--', 'pwd', ':::', 'x')


def test_a_directory_that_a_worktree_would_not_have_is_refused_at_once(drover, repository):
    folder = os.path.join(repository, 'new', 'er')
    os.makedirs(folder)
    drover.bad(2, 'run', '-w', 'true', cwd=folder, says=["'new/er/' is not in commit", '--cwd'])
    assert nothing_was_queued(drover)
    drover.good('run', 'true', cwd=folder)


def test_no_home_is_told_and_no_status_is_made_up(drover):
    environment = dict.fromkeys(('HOME', 'DROVER_STATE_DIR', 'XDG_STATE_HOME'))
    for arguments in (['daemon', 'status'], ['daemon', 'status', '--json'], ['ls']):
        done = drover.run(*arguments, env=environment)
        assert (done.returncode, done.stdout) == (3, '') and 'HOME' in done.stderr, done


def test_why_says_nothing_twice(drover):
    drover.run('run', '--name', 'bad', 'false')
    drover.run('run', '--name', 'later', '--after', 'bad', 'true')
    number = drover.task('bad')['id']
    assert drover.good('why', 'later') == f'#{number + 1} later is skipped: #{number} failed\n'
    held = drover.add('--hold', 'true')[0]
    drover.good('cancel', '--reason', 'not wanted', held)
    assert drover.good('why', held) == f'#{held} is cancelled by user: not wanted\n'
    assert drover.good('why', 'bad') == f'#{number} bad is failed: exit 1\n'


def test_keys_of_the_source_are_checked_and_said_not_to_be_heeded_yet(drover, repository):
    path = os.path.join(repository, '.parallel.yaml')
    harness.write(path, 'enabled: true\nmaxMemoryUsagePercent: 85\nmergeStrategy: squash\nverbose: false\n')
    done = drover.run('run', '--', 'echo', 'x')
    assert (done.returncode, done.stdout) == (0, 'x\n')
    assert 'not heeded yet' in done.stderr and 'maxMemoryUsagePercent, mergeStrategy' in done.stderr
    assert 'verbose' not in done.stderr and drover.run('run', '-q', 'true').stderr == ''
    harness.write(path, 'mergeStrategy: octopus\n')
    drover.bad(2, 'run', 'true', says=['mergeStrategy', 'octopus'])
    harness.write(path, 'maxMemoryUsagePercentage: 85\n')
    drover.bad(2, 'run', 'true', says=['maxMemoryUsagePercentage', 'maxMemoryUsagePercent'])


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
