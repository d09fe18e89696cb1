"""kill -9 at every system call of drover-worktree, or of a git that it started, that changes anything. FAULTS 44.

After each kill the same request again succeeds with the same result; nothing is left behind, nothing is lost, and the main
worktree, index, configuration and hooks are as they were (INV-G1 to INV-G3). `make check` takes a sample of the calls,
another one with each DROVER_SEED; `make soak` takes them all.
"""
import collections
import os
import re
import shutil
import subprocess

import pytest

from harness import git, read, write
from repositories import Repository, commit_in

STRACE = shutil.which('strace')
IS_SOAK = bool(os.environ.get('DROVER_SOAK'))
SEED = int(os.environ.get('DROVER_SEED', '0'))
SAMPLE = 2  # points of each case in `make check`
NO_LEAK_CHECK = {'ASAN_OPTIONS': 'detect_leaks=0'}  # it cannot be done under strace

# All that change files, locks or processes. Between two of them nothing happens that could be seen after a death.
CALLS = ('openat', 'openat2', 'open', 'creat', 'mkdir', 'mkdirat', 'rmdir', 'rename', 'renameat', 'renameat2', 'unlink',
         'unlinkat', 'link', 'linkat', 'symlink', 'symlinkat', 'write', 'writev', 'pwrite64', 'ftruncate', 'truncate',
         'chmod', 'fchmod', 'fchmodat', 'utimensat', 'fsync', 'fdatasync', 'sync_file_range', 'fcntl', 'flock', 'fork',
         'vfork', 'clone', 'clone3', 'execve', 'exit_group')

pytestmark = [pytest.mark.soak,
              pytest.mark.skipif(not STRACE, reason='strace is not installed: kill -9 at each system call is not tested')]


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


# ---- where to kill ----

def changes(call, line):
    if call in ('openat', 'openat2', 'open'):
        return 'O_CREAT' in line or 'O_TRUNC' in line
    if call == 'fcntl':
        return 'SETLK' in line
    return True


def points_in(text, is_all):
    """(call, n) for each nth such call of any process. strace counts each call of each process by itself."""
    seen, found = collections.Counter(), {}
    for line in text.splitlines():
        match = re.match(r'(?:(\d+) +)?(\w+)\(', line)
        if not match or (match[2] == 'execve' and not found and not seen):
            continue  # the one that starts it
        seen[match[1], match[2]] += 1
        if changes(match[2], line):
            found[match[2], seen[match[1], match[2]]] = True
    return list(found)


class Helper:
    """Kills drover-worktree, with `is_all` also each git that it has started when that comes to the same count."""

    def __init__(self, is_all):
        self.flags = ['-f', '-qq'] if is_all else ['-qq']
        self.is_all = is_all

    def list(self, repository, verb, request):
        out = os.path.join(repository.folder, 'calls')
        done, _ = repository.call(verb, request, env=NO_LEAK_CHECK,
                                  before=[STRACE, *self.flags, '-o', out, '-e', 'trace=' + ','.join(CALLS)])
        assert done.returncode in (0, 1), done
        return points_in(read(out), self.is_all)

    def kill(self, repository, verb, request, point):
        call, number = point
        done, _ = repository.call(verb, request, env=NO_LEAK_CHECK, before=[
            STRACE, *self.flags, '-o', '/dev/null', '-e', f'trace={call}', '-e',
            f'inject={call}:signal=SIGKILL:when={number}'])
        assert self.is_all or done.returncode == -9, (point, done)


class OneGit:
    """Kills the kth git only; the helper lives on and has to see to what that has left."""

    def wrap(self, repository, number, strace):
        tools = os.path.join(repository.folder, 'tools')
        os.makedirs(tools, exist_ok=True)
        counter = write(os.path.join(repository.folder, 'count'), '0\n')
        # The counter is no matter of concurrency: the helper starts one git after another.
        write(os.path.join(tools, 'git'), f'''#!/bin/sh
read n < {counter}
n=$((n + 1))
echo $n > {counter}
test {number} = all || test $n = {number} || exec {shutil.which('git')} "$@"
exec {STRACE} -f -qq {strace} {shutil.which('git')} "$@"
''', 0o755)
        return {'PATH': tools + ':' + os.environ['PATH'], **NO_LEAK_CHECK}

    def list(self, repository, verb, request):
        out = os.path.join(repository.folder, 'calls')
        trace = f'-o {out}.$n -e trace={",".join(CALLS)}'
        done, _ = repository.call(verb, request, env=self.wrap(repository, 'all', trace))
        assert done.returncode in (0, 1), done
        count = int(read(os.path.join(repository.folder, 'count')))
        return [(number, *point) for number in range(1, count + 1) for point in points_in(read(f'{out}.{number}'), True)]

    def kill(self, repository, verb, request, point):
        number, call, index = point
        inject = f'-o /dev/null -e trace={call} -e inject={call}:signal=SIGKILL:when={index}'
        done, _ = repository.call(verb, request, env=self.wrap(repository, number, inject))
        assert done.returncode in (0, 1), (point, done)


KILLERS = {'helper': lambda: Helper(False), 'helper-and-git': lambda: Helper(True), 'one-git': OneGit}


# ---- what is interrupted ----

class Making:
    """prepare of a first attempt."""

    verb = 'prepare'
    before = ()     # worktrees that are there already
    init = ()
    is_again = False

    def template(self, folder):
        return Repository(folder, name='template', files={'README': 'hello\n', 'src/a.c': 'a\n'})

    def begin(self, repository):
        return repository.request(1, name='fix')

    def check(self, repository, request, others, _):
        made = repository.prepare(1, name='fix', attempt=request['attempt'])
        assert made['branch'] == 'parallel/fix' and made['path'].endswith('/fix')
        assert git('status', '--porcelain', '--branch', cwd=made['path']) == '## parallel/fix'
        assert sorted(os.listdir(made['path'])) == ['.git', 'README', 'src']
        assert repository.worktrees() == repository.admins() == [*others, 'fix']
        assert repository.branches() == [f'parallel/{name}' for name in [*others, 'fix']]


class MakingByGit(Making):
    """Where worktrees have configuration of their own, git itself makes them."""

    def template(self, folder):
        made = super().template(folder)
        made.git('sparse-checkout', 'set', 'src')
        return made


class MakingAgain(Making):
    """prepare of a second attempt, on the branch of the first."""

    def begin(self, repository):
        made = repository.prepare(1, name='fix')
        write(os.path.join(made['path'], 'new'), 'n\n')
        repository.collect(1, made, has_succeeded=False, is_again=True)
        return repository.request(1, attempt=2, name='fix')

    def check(self, repository, request, others, state):
        super().check(repository, request, others, state)
        assert repository.git('show', 'refs/drover/salvage/1-1:new') == 'n'


class ClearingUp(Making):
    """prepare that first undoes what another's killed prepare has left: the second of two deaths."""

    def begin(self, repository):
        done, _ = repository.call('prepare', repository.request(9, name='dead'), env=NO_LEAK_CHECK, before=[
            STRACE, '-qq', '-o', '/dev/null', '-P', os.path.join(repository.common, 'drover', 'worktrees'), '-e',
            'trace=renameat', '-e', 'inject=renameat:signal=SIGKILL'])  # as its last step becomes durable
        assert done.returncode == -9 and os.listdir(os.path.join(repository.common, 'drover', 'intents')) == ['9-1.json']
        assert repository.admins() == repository.worktrees() == ['dead']
        return repository.request(1, name='fix')


class Collecting:
    """collect after success: commit, branch, removal."""

    verb = 'collect'
    more = {}
    saved = 'parallel/fix'
    salvage = []
    stays = False

    def template(self, folder):
        return Repository(folder, name='template')

    def work(self, path):
        own = commit_in(path, 'own')
        write(os.path.join(path, 'new'), 'n\n')
        return own

    def begin(self, repository):
        made = repository.prepare(1, name='fix')
        self.own = self.work(made['path'])
        return repository.collect_request(1, made, **self.more)

    def again(self, repository, request):
        return repository.good('collect', request)

    def check(self, repository, request, others, _):
        done = self.again(repository, request)
        assert done['changed_files'] == 2 and done['is_removed'] == (not self.stays)
        assert repository.git('rev-parse', self.saved) == done['commit']
        assert repository.git('rev-parse', f'{self.saved}~1') == self.own
        assert repository.git('show', f'{self.saved}:new') == 'n'
        self.check_rest(repository, others)

    def check_rest(self, repository, others):
        assert repository.refs('refs/drover/salvage') == self.salvage
        stay = others + (['fix'] if self.stays else [])
        assert repository.worktrees() == stay and repository.admins() == stay


class Keeping(Collecting):
    """collect after failure: the worktree stays."""

    more = {'has_succeeded': False}
    stays = True


class Resetting(Collecting):
    """collect before another attempt: salvage ref, branch back to base, removal."""

    more = {'has_succeeded': False, 'is_again': True}
    saved = 'refs/drover/salvage/1-1'
    salvage = ['refs/drover/salvage/1-1']


class Salvaging(Collecting):
    """collect of work that left the branch: both stay reachable."""

    salvage = ['refs/drover/salvage/1']

    def work(self, path):
        own = commit_in(path, 'own')
        git('checkout', '-q', '--detach', 'HEAD~1', cwd=path)
        write(os.path.join(path, 'new'), 'n\n')
        return own

    def check(self, repository, request, others, _):
        done = self.again(repository, request)
        assert done['is_removed'] and done['commit'] == self.own == repository.git('rev-parse', 'parallel/fix')
        assert repository.git('show', 'refs/drover/salvage/1:new') == 'n'
        self.check_rest(repository, others)


class CollectingNothing(Collecting):
    """collect of a worktree in which nothing was done."""

    def work(self, path):
        return None

    def check(self, repository, request, others, _):
        done = self.again(repository, request)
        assert done['is_removed'] and done['commit'] == repository.base and done['changed_files'] == 0
        self.check_rest(repository, others)


class CollectingTheMissing(Collecting):
    """collect of a worktree that has been deleted: what the branch has is kept."""

    def begin(self, repository):
        request = super().begin(repository)
        shutil.rmtree(request['path'])
        return request

    def check(self, repository, request, others, _):
        done = repository.bad('collect', request, 'worktree-missing')
        assert done['commit'] == self.own == repository.git('rev-parse', 'parallel/fix')
        assert repository.worktrees() == others


CASES = [Making, MakingByGit, MakingAgain, ClearingUp, Collecting, Keeping, Resetting, Salvaging, CollectingNothing,
         CollectingTheMissing]


def make_copy(template, folder, name):
    """A repository like the template, in a place of its own."""
    copy = Repository.__new__(Repository)
    copy.__dict__.update(template.__dict__)
    copy.folder = os.path.join(folder, str(name))
    copy.path = os.path.join(copy.folder, 'repo')
    copy.common = os.path.join(copy.path, '.git')
    shutil.copytree(template.path, copy.path, symlinks=True)
    return copy


def sample(points):
    """All of them, or some that are spread evenly and differ by seed."""
    if IS_SOAK:
        return points
    stride = max(1, len(points) // SAMPLE)
    return points[SEED % stride::stride]


@pytest.mark.limit(3600 if IS_SOAK else 120)
@pytest.mark.parametrize('killer', KILLERS)
@pytest.mark.parametrize('case', CASES, ids=lambda case: case.__name__)
def test_killed(folder, case, killer):
    template = case().template(folder)
    killing = KILLERS[killer]()
    counted = make_copy(template, folder, 'counted')
    points = killing.list(counted, case.verb, case().begin(counted))
    assert len(points) >= 8, points
    chosen = sample(points)
    for number, point in enumerate(chosen):
        scenario = case()
        repository = make_copy(template, folder, number)
        request = scenario.begin(repository)
        before = repository.fingerprint()
        killing.kill(repository, case.verb, request, point)
        try:
            # One time in three somebody else comes first and clears up, as after a daemon that never asks again.
            others = ['2'] if number % 3 == 0 else []
            if others:
                repository.prepare(2)
            scenario.check(repository, request, others, None)
            assert repository.fingerprint() == before
            repository.assert_sound()
        except AssertionError as error:
            raise AssertionError(f'killed at {point}, the {number}th of {len(chosen)}: {error}') from error
        shutil.rmtree(repository.folder)
    print(f'{case.__name__} {killer}: {len(chosen)} of {len(points)} places')
