"""Templates and values agree with the real GNU parallel, case by case; where drover differs on purpose, that is tested too.

The deliberate differences are listed in docs/parallel.md.
"""
import os
import shutil
import subprocess

import pytest

FILES = {
    'two': 'A\nB\n', 'three': '1\n2\n3\n', 'blanks': 'a b\n\n  c  \nlast', 'csv': 'x,1\ny,2\n', 'tsv': 'a\tb\nc\td\n',
    'ragged': 'a,b,c\nd\n,e\n', 'nul': 'a\nb\0c\0', 'paths': 'a/b.c.d\n/e\nf/\n', 'empty': '',
    'words': "it's\n$HOME\n*\na;b\n",
}

# Words between bars; the same for both programs, which run with -k.
with open(os.path.join(os.path.dirname(__file__), 'templates.cases'), encoding='utf-8') as cases:
    SAME = [line.rstrip('\n') for line in cases if not line.startswith('#')]


def words_of(case):
    return [word.replace('\0', '|') for word in case.replace('\\|', '\0').split('|')]


@pytest.fixture(scope='module')
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp('values')
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def run_parallel(words, folder):
    environment = {'PATH': '/usr/bin:/bin', 'HOME': str(folder), 'LC_ALL': 'C.UTF-8', 'PARALLEL_SHELL': '/bin/bash'}
    done = subprocess.run([shutil.which('parallel'), '--will-cite', '-k', *words], cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, env=environment, check=False, timeout=60)
    return done.stdout


@pytest.mark.parametrize('case', SAME)
def test_the_same_as_gnu_parallel(case, module_drover, values):
    words = words_of(case)
    expected = run_parallel(words, values)
    done = module_drover.run('run', '-k', '--progress=none', '-q', *words, cwd=str(values), text=False,
                             env={'HOME': str(values)})
    assert done.returncode == 0, done.stderr
    assert strip_ends(done.stdout) == strip_ends(expected)


def strip_ends(output):
    """Blanks at the end of a line come from an argument that is empty, which a shell drops and an argv keeps."""
    return [line.rstrip(b' ') for line in output.splitlines()]


# -- where drover differs ----------------------------------------------------------------------------------------------

DIFFERENT = [
    (['echo', '{3}', ':::', 'a'], '{3} stands for a value of source 3, but there is 1'),
    ([':::+', 'a'], "begin with ':::'"),
    (['--colsep', '(', 'echo', ':::', 'a'], "'(' is no regular expression"),
    (['--colsep', 'x*', 'echo', ':::', 'a'], 'also matches nothing'),
    (['--colsep', '', 'echo', ':::', 'a'], 'a separator has'),
    (['echo', '::::', 'nowhere'], "cannot open 'nowhere'"),
    (['-n', 'two', 'echo', ':::', 'a'], 'two'),
    (['echo', *([':::', 'a'] * 33)], 'more than 32 sources'),
]


@pytest.mark.parametrize('words, says', DIFFERENT, ids=[says for _, says in DIFFERENT])
def test_refused_before_anything_is_queued(words, says, module_drover, values):
    before = module_drover.json('ls', '--all')
    module_drover.bad(2, 'run', *words, cwd=str(values), says=says)
    assert module_drover.json('ls', '--all') == before


def test_an_argument_is_never_a_shell_text(module_drover, values):
    """GNU parallel gives every command to a shell; here words are an argv, and only one word with a blank is a text."""
    assert module_drover.good('run', '-q', 'echo', '$HOME;', '*', ':::', 'a', cwd=str(values)) == '$HOME; * a\n'


def test_a_source_without_values_is_no_task(module_drover, values):
    assert module_drover.good('run', '-q', 'echo', '{1}-{2}', ':::', 'a', ':::', cwd=str(values)) == ''


def test_the_number_of_the_slot(module_drover, values):
    """{%} is below the limit, and no two tasks that run at once have the same."""
    script = 'mkdir lock.{%} && sleep 0.05 && rmdir lock.{%} && echo {%} $PARALLEL_JOBSLOT'
    lines = module_drover.good('run', '-q', '-j3', script + ' #', ':::', *range(12), cwd=str(values)).split('\n')[:-1]
    assert len(lines) == 12
    assert {line.split()[0] for line in lines} <= {'1', '2', '3'}
    assert all(line.split()[0] == line.split()[1] for line in lines)


def test_a_value_that_looks_like_the_slot_stays(module_drover, values):
    done = module_drover.good('run', '-q', '-j1', 'echo', '{%}', '{}', ':::', '{%}', '{%1}', cwd=str(values))
    assert done == '1 {%}\n1 {%1}\n'
    assert module_drover.good('run', '-q', 'echo', '{%}', cwd=str(values)) == '{%}\n'
