"""--joblog, --resume, --resume-failed, --results and --dry-run, beside the real GNU parallel where it has them."""
import os
import re
import signal
import subprocess

import harness

HEADER = 'Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand'


def read_log(path):
    """Lines as dictionaries, by the header."""
    header, *lines = harness.read(path).split('\n')[:-1]
    assert header == HEADER
    return [dict(zip(header.split('\t'), line.split('\t'))) for line in lines]


def parallel(folder, *words):
    subprocess.run(['parallel', '--will-cite', *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE, check=False, timeout=60,
                   env={'PATH': '/usr/bin:/bin', 'HOME': folder, 'PARALLEL_SHELL': '/bin/bash'})


def test_the_columns_of_gnu_parallel(drover):
    """All but times and the shell's quotes are the same."""
    ways = ['exit 3', 'kill -9 $$', 'echo out', 'echo two; echo lines']
    parallel(drover.work, '-j1', '--joblog', 'theirs', 'sh -c {}', ':::', *ways)
    drover.run('run', '-q', '-j1', '--joblog', 'ours', 'sh', '-c', '{}', ':::', *ways)
    theirs, ours = (read_log(os.path.join(drover.work, name)) for name in ('theirs', 'ours'))
    assert len(ours) == len(theirs) == len(ways)
    for one, other in zip(ours, theirs):
        for name in ('Seq', 'Host', 'Send', 'Receive', 'Exitval', 'Signal'):
            assert one[name] == other[name], (name, one, other)
        assert re.fullmatch(r'\d+\.\d{3}', one['Starttime']) and re.fullmatch(r' *\d+\.\d{3}', one['JobRuntime'])
        assert abs(float(one['Starttime']) - float(other['Starttime'])) < 600
    assert ours[0]['Command'] == "sh -c 'exit 3'"


def test_what_never_ran_is_not_in_it(drover):
    log = os.path.join(drover.work, 'log')
    process = drover.popen('run', '-q', '-j1', '--joblog', 'log', ':::', 'sleep 1000', 'echo never')
    harness.wait_until(lambda: drover.json('ls')['tasks'] and drover.json('ls')['tasks'][0]['state'] == 'running', 20)
    drover.good('cancel', '--all')
    process.communicate(timeout=30)
    drover.started.remove(process)
    lines = read_log(log)
    assert [(line['Seq'], line['Exitval'], line['Command']) for line in lines] == [('1', '-1', 'sleep 1000')]
    assert int(lines[0]['Signal']) == signal.SIGTERM


def test_resume(drover):
    """What the log has is left out, the others keep their numbers."""
    log = os.path.join(drover.work, 'log')
    options, command = ['run', '-q', '-j1', '--joblog', 'log'], 'test {} != b && echo {#}{}'
    assert drover.run(*options, command, ':::', 'a', 'b').stdout == '1a\n'
    assert drover.run(*options, '--resume', command, ':::', 'a', 'b', 'c', 'd').stdout == '3c\n4d\n'
    assert [line['Seq'] for line in read_log(log)] == ['1', '2', '3', '4']
    failed = ['run', '-j1', '--joblog', 'log', '--resume-failed', 'echo {#}{}', ':::', *'abcde']
    assert drover.good(*failed) == '2b\n5e\n'
    assert [line['Seq'] for line in read_log(log)] == ['1', '2', '3', '4', '2', '5']
    done = drover.run(*failed)
    assert (done.returncode, done.stdout) == (0, '') and 'all of it is done' in done.stderr


def test_resume_after_a_crash_in_a_line(drover):
    """The line that was cut off counts as not written, and what follows begins a line."""
    log = os.path.join(drover.work, 'log')
    drover.good('run', '-q', '-j1', '--joblog', 'log', 'echo {}', ':::', 'a', 'b')
    with open(log, 'r+b') as file:
        file.truncate(os.path.getsize(log) - 5)
    assert drover.good('run', '-q', '--joblog', 'log', '--resume', 'echo {}', ':::', 'a', 'b') == 'b\n'
    assert [line['Seq'] for line in read_log(log)] == ['1', '2']


def test_a_log_of_gnu_parallel_is_gone_on_with(drover):
    parallel(drover.work, '-j1', '--joblog', 'log', 'test {} = a', ':::', 'a', 'b')
    done = drover.good('run', '-qk', '--joblog', 'log', '--resume-failed', 'echo {#}{}', ':::', *'abc')
    assert done.split() == ['2b', '3c']


def test_refusals(drover):
    drover.bad(2, 'run', '--resume', 'echo', ':::', 'a', says='--joblog')
    drover.bad(2, 'run', '--joblog', '/nowhere/log', 'echo', ':::', 'a', says="cannot write '/nowhere/log'")
    drover.bad(2, 'run', '--results', '/nowhere/dir', 'echo', ':::', 'a', says="cannot make '/nowhere/dir'")
    with open(os.path.join(drover.work, 'text'), 'w', encoding='ascii') as file:
        file.write('head\nsomething else\n')
    drover.bad(2, 'run', '--joblog', 'text', '--resume', 'echo', ':::', 'a', says=["line 2 of 'text'", 'something else'])
    assert harness.read(os.path.join(drover.work, 'text')) == 'head\nsomething else\n'
    drover.bad(2, 'run', '--resume', '--joblog', 'x', '-f', 'batch.yaml', says='--resume cannot be given together with -f')
    assert drover.json('ls', '--all')['tasks'] == []


def test_results(drover):
    """The folders of GNU parallel, and names that would lead elsewhere are escaped."""
    values = ['a b', 'x/y', 'back\\slash', '.', '..', '', 'l' * 300]
    drover.run('run', '-q', '--results', 'ours', 'echo out {}; echo error >&2', ':::', *values, ':::', '1')
    parallel(drover.work, '--results', 'theirs', 'echo out {}; echo error >&2', ':::', *values[:3], ':::', '1')
    for name in sorted(os.listdir(os.path.join(drover.work, 'theirs', '1'))):
        for file in ('stdout', 'stderr', 'seq'):
            ours, theirs = (os.path.join(drover.work, who, '1', name, '2', '1', file) for who in ('ours', 'theirs'))
            assert harness.read(ours) == harness.read(theirs), ours
    folders = set(os.listdir(os.path.join(drover.work, 'ours', '1')))
    assert folders == {'a b', 'x\\_y', 'back\\\\slash', '\\.', '\\..', '\\', 'l' * 200 + '\\7'}
    assert os.listdir(os.path.join(drover.work, 'ours')) == ['1']


def test_results_of_a_batch_file(drover):
    with open(os.path.join(drover.work, 'batch.yaml'), 'w', encoding='ascii') as file:
        file.write('tasks:\n- {id: one, run: echo 1}\n- {id: two, run: [sh, -c, "echo 2; exit 4"]}\n')
    drover.bad(1, 'run', '-f', 'batch.yaml', '--results', 'out', '--joblog', 'log', '-j1')
    assert harness.read(os.path.join(drover.work, 'out', 'two', 'stdout')) == '2\n'
    lines = read_log(os.path.join(drover.work, 'log'))
    assert [(line['Seq'], line['Exitval'], line['Command']) for line in lines] == \
        [('1', '0', 'echo 1'), ('2', '4', "sh -c 'echo 2; exit 4'")]


def test_dry_run(drover):
    """Prints what would be run, asks no daemon and makes nothing."""
    assert drover.good('run', '--dry-run', 'echo', '{}', '$x', ':::', 'a b', "it's") == \
        "echo 'a b' '$x'\necho 'it'\\''s' '$x'\n"
    assert drover.good('add', '--dry-run', 'echo {} | wc -c', ':::', '*') == "echo '*' | wc -c\n"
    with open(os.path.join(drover.work, 'batch.yaml'), 'w', encoding='ascii') as file:
        file.write('tasks:\n- {id: one, run: echo 1}\n- run: [echo, "a b"]\n')
    assert drover.good('run', '--dry-run', '-f', 'batch.yaml') == "one: echo 1\necho 'a b'\n"
    assert not os.path.exists(os.path.join(drover.state, 'drover.db'))
