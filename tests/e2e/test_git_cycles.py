"""Worktrees made and removed beside others who clean up the same repository: `git gc`, `git worktree prune`. FAULTS 43.

FACTS 1.2, 1.3: `git worktree add` fails beside itself, and a prune that does not know our lock takes worktrees away while
they are made. In `make check` a dose; `make soak` runs CYCLES of them, 2,500 by default.
"""
import concurrent.futures
import contextlib
import os
import shlex
import shutil
import subprocess
import time

import pytest

from harness import git, read, write
from repositories import Repository

IS_SOAK = bool(os.environ.get('DROVER_SOAK'))
AT_ONCE = 150
WORKERS = 8

# Everything that cleans up by itself or that runbooks recommend, but for what destroys repositories: gc --prune=now.
FOREIGN = ['git worktree prune --expire=now', 'git gc -q', 'git pack-refs --all --prune', 'git repack -q -a -d',
           'git worktree prune', 'git maintenance run --quiet --auto', 'git gc -q --auto']


@pytest.fixture
def repository(tmp_path):
    made = Repository(str(tmp_path), files={'README': 'hello\n', **{f'src/{n}.c': f'int a{n};\n' for n in range(30)}})
    before = made.fingerprint()
    yield made
    assert made.fingerprint() == before
    made.assert_sound()


class Foreign:
    """Runs the commands one after another, and each to its end, until it is told to stop."""

    def __init__(self, repository):
        self.stop = os.path.join(repository.folder, 'stop')
        self.turns = os.path.join(repository.folder, 'turns')
        script = '; '.join(f'{command} 2>> {shlex.quote(self.turns)}.log' for command in FOREIGN)
        # A gc in the background would go on when its turn is over.
        environment = dict(repository.environment, LC_ALL='C', GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0='gc.autoDetach',
                           GIT_CONFIG_VALUE_0='false')
        self.process = subprocess.Popen(
            ['sh', '-c', f'while ! test -e "{self.stop}"; do {script}; echo >> "{self.turns}"; done'], cwd=repository.path,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    def end(self):
        """Returns how often it went through the commands."""
        write(self.stop, '')
        self.process.wait(timeout=60)
        return len(read(self.turns))


@contextlib.contextmanager
def beside_others(repository):
    foreign = Foreign(repository)
    try:
        yield foreign
    finally:
        turns = foreign.end()
    assert turns > 0, 'the foreign cleaning was never at work'


@pytest.mark.soak
@pytest.mark.limit(900)
def test_many_made_at_once(repository):
    with beside_others(repository), concurrent.futures.ThreadPoolExecutor(AT_ONCE if IS_SOAK else 40) as pool:
        made = list(pool.map(lambda task: repository.prepare(task, name='same', lock_timeout_ms=600000),
                             range(1, AT_ONCE + 1)))
        assert len({one['path'] for one in made}) == len({one['branch'] for one in made}) == AT_ONCE
        for one in made[::10]:
            assert git('status', '--porcelain', '--branch', cwd=one['path']) == f'## {one["branch"]}'
    assert len(repository.admins()) == len(repository.worktrees()) == AT_ONCE
    for one in made:
        assert read(os.path.join(one['path'], 'src', '7.c')) == 'int a7;\n'
    for task, one in list(enumerate(made, 1))[::15 if not IS_SOAK else 1]:
        assert repository.collect(task, one)['is_removed']


def cycle(repository, task):
    """One worktree: made, worked in, by every third with a commit of its own, collected and removed."""
    made = repository.prepare(task, name=f'task-{task}')
    write(os.path.join(made['path'], 'out'), f'{task}\n')
    os.unlink(os.path.join(made['path'], 'src', '3.c'))
    if task % 3 == 0:
        # What git itself cannot do beside a foreign gc (FACTS 1.1: about one in a hundred) is not ours to judge.
        subprocess.run('git add -A && git -c user.name=A -c user.email=a@example.org commit -qm own', shell=True,
                       check=False, cwd=made['path'], env=repository.environment, capture_output=True)
    is_again = task % 5 == 0
    done = repository.collect(task, made, has_succeeded=not is_again, is_again=is_again)
    assert done['is_removed'] and done['changed_files'] == 2 and done['note'] is None, done
    return done['salvage'] or f'refs/heads/{made["branch"]}'


@pytest.mark.soak
@pytest.mark.limit(7200)
def test_cycles(repository):
    count = int(os.environ.get('CYCLES', '2500' if IS_SOAK else '40'))
    begin = time.monotonic()
    with beside_others(repository) as foreign, concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        kept = list(pool.map(lambda task: cycle(repository, task), range(1, count + 1)))
    print(f'{count} cycles in {time.monotonic() - begin:.0f} s beside {len(read(foreign.turns))} turns of foreign cleaning')
    assert repository.worktrees() == repository.admins() == []
    assert len(repository.branches()) == count
    questions = ''.join(f'{ref}:out\n' for ref in kept)
    told = subprocess.run(['git', 'cat-file', '--batch'], input=questions, text=True, capture_output=True, check=True,
                          cwd=repository.path).stdout.split('\n')
    assert told[1::3] == [str(task) for task in range(1, count + 1)]


@pytest.mark.parametrize('verb', ['update-index', 'write-tree', 'commit-tree'])
def test_a_directory_of_objects_that_a_gc_took_away(repository, verb):
    """git gives up then; what it was to do is simply done again."""
    tools, count = os.path.join(repository.folder, 'tools'), os.path.join(repository.folder, 'count')
    os.mkdir(tools)
    write(os.path.join(tools, 'git'), f'''#!/bin/sh
if [ "$1" = {verb} ] && [ "$(wc -l < {count})" -lt 2 ]; then
    echo >> {count}
    echo 'fatal: unable to create temporary file: No such file or directory' >&2
    exit 128
fi
exec {shutil.which('git')} "$@"
''', 0o755)
    write(count, '')
    made = repository.prepare(1)
    write(os.path.join(made['path'], 'out'), 'x\n')
    request = repository.collect_request(1, made)
    done = repository.good('collect', request, env={'PATH': tools + ':' + os.environ['PATH']})
    assert done['changed_files'] == 1 and read(count) == '\n\n'
