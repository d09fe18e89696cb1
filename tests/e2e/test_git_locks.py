"""git's own lock files: live ones of others are waited for, stale ones of others told of and never removed, ours repaired.
FAULTS 46.
"""
import concurrent.futures
import contextlib
import os
import subprocess
import time

import pytest

import harness
from harness import git, read, write
from repositories import Repository, commit_in

HOUR_S = 3600


@pytest.fixture
def repository(tmp_path):
    made = Repository(str(tmp_path))
    before = made.fingerprint()
    yield made
    assert made.fingerprint() == before
    made.assert_sound()


def lay(path, age_s=HOUR_S):
    """A lock file that somebody left long ago."""
    write(path, 'left\n')
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def in_admin(repository, name, admin='fix'):
    return os.path.join(repository.common, 'worktrees', admin, name)


@contextlib.contextmanager
def editing(repository, worktree):
    """A live `git commit -a` that holds the worktree's index.lock, its descriptor closed, until its editor ends."""
    fifo = os.path.join(repository.folder, 'editing')
    os.mkfifo(fifo)
    environment = dict(repository.environment, GIT_EDITOR=f'sh -c \'read x < {fifo}; echo edited > "$1"\' sh', LC_ALL='C',
                       **{f'GIT_{who}_{what}': 'x' for who in ('AUTHOR', 'COMMITTER') for what in ('NAME', 'EMAIL')})
    with subprocess.Popen(['git', 'commit', '-qa'], cwd=worktree, env=environment, stdin=subprocess.DEVNULL) as process:
        release = os.open(fifo, os.O_WRONLY)
        try:
            harness.wait_until(lambda: os.path.exists(in_admin(repository, 'index.lock')), 20, 'git holds its lock')
            yield process, lambda: os.write(release, b'go\n')
        finally:
            with contextlib.suppress(BrokenPipeError):
                os.write(release, b'go\n')
            os.close(release)


@contextlib.contextmanager
def holding(path):
    """A live process that has the lock file open."""
    with open(path, 'x', encoding='ascii') as file:
        with subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=file) as process:
            yield process


def begin(repository):
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'README'), 'changed\n')
    write(os.path.join(made['path'], 'new'), 'n\n')
    return made


def test_a_live_git_is_waited_for(repository):
    made = begin(repository)
    with editing(repository, made['path']) as (process, release), concurrent.futures.ThreadPoolExecutor(1) as pool:
        collecting = pool.submit(repository.collect, 1, made)
        with pytest.raises(concurrent.futures.TimeoutError):
            collecting.result(timeout=1.5)
        assert os.path.exists(in_admin(repository, 'index.lock'))
        release()
        done = collecting.result(timeout=30)
        assert process.wait(timeout=10) == 0
    assert done['is_removed'] and done['changed_files'] == 2
    assert repository.git('log', '--format=%s', 'main..parallel/fix').splitlines() == ['task: result', 'edited']


def test_a_live_git_that_does_not_end(repository):
    made = begin(repository)
    lock = in_admin(repository, 'index.lock')
    with editing(repository, made['path']) as (process, _):
        before = os.stat(lock)
        done = repository.bad('collect', repository.collect_request(1, made, lock_timeout_ms=700), 'lock-file', lock)
        assert f'process {process.pid} may hold it' in done['error']['message']
        assert os.stat(lock) == before
        assert read(os.path.join(made['path'], 'new')) == 'n\n'
    assert repository.collect(1, made)['is_removed']
    assert repository.git('show', 'parallel/fix:new') == 'n'


@pytest.mark.parametrize('name', ['worktrees/fix/index.lock', 'worktrees/fix/HEAD.lock', 'refs/heads/parallel/fix.lock',
                                  'refs/drover/salvage/1-1.lock'])
def test_stale_locks_of_others_are_told_of_and_stay(repository, name):
    made = begin(repository)
    path = os.path.join(repository.common, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lay(path)
    request = repository.collect_request(1, made, has_succeeded=False, is_again=True, lock_timeout_ms=600)
    done = repository.bad('collect', request, 'lock-file', path)
    for words in ('1h00m old', 'no process was seen to hold it', 'delete it'):
        assert words in done['error']['message'], done
    assert read(path) == 'left\n' and read(os.path.join(made['path'], 'new')) == 'n\n'
    os.unlink(path)
    assert repository.good('collect', request)['is_removed']
    assert repository.git('show', 'refs/drover/salvage/1-1:new') == 'n'


@pytest.mark.parametrize('name', ['worktrees/fix/index.lock', 'worktrees/fix/HEAD.lock', 'refs/heads/parallel/fix.lock'])
def test_locks_of_the_tasks_own_dead_git_are_repaired(repository, name):
    made = begin(repository)
    write(os.path.join(repository.common, name), 'half\n')
    assert repository.collect(1, made)['changed_files'] == 2


def test_a_lock_in_a_kept_worktree_is_its_users(repository):
    """Collected and kept, it is no longer only the task's."""
    made = begin(repository)
    repository.collect(1, made, keep=True)
    write(os.path.join(made['path'], 'later'), 'l\n')
    lock = write(in_admin(repository, 'index.lock'), 'mine\n')
    repository.bad('collect', repository.collect_request(1, made, lock_timeout_ms=600), 'lock-file', lock)
    assert read(lock) == 'mine\n'
    os.unlink(lock)
    assert repository.collect(1, made)['changed_files'] == 3


def test_a_lock_that_is_let_go(repository):
    """Each of a row of holders is waited for."""
    made = begin(repository)
    lock = os.path.join(repository.common, 'refs', 'heads', 'parallel', 'fix.lock')
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with holding(lock) as process:
            collecting = pool.submit(repository.collect, 1, made)
            with pytest.raises(concurrent.futures.TimeoutError):
                collecting.result(timeout=1)
            os.unlink(lock)
            process.stdin.close()
        assert collecting.result(timeout=30)['is_removed']


def test_what_is_locked_elsewhere_does_not_concern_us(repository):
    """Stale locks over the main worktree's index, HEAD and branch, the configuration and the packed refs."""
    paths = [lay(os.path.join(repository.common, name))
             for name in ('index.lock', 'HEAD.lock', 'config.lock', 'packed-refs.lock', 'shallow.lock',
                          'refs/heads/main.lock')]
    repository.good('inspect', {'directory': repository.path})
    made = begin(repository)
    assert repository.collect(1, made)['is_removed']
    for path in paths:
        assert read(path) == 'left\n'
        os.unlink(path)


def test_a_branch_that_somebody_is_making(repository):
    os.makedirs(os.path.join(repository.common, 'refs', 'heads', 'parallel'))
    lock = lay(os.path.join(repository.common, 'refs', 'heads', 'parallel', 'fix.lock'))
    assert repository.prepare(1, name='fix')['branch'] == 'parallel/fix-1'
    assert read(lock) == 'left\n'
    os.unlink(lock)


def test_clearing_up_waits_for_the_packed_refs(repository):
    """What a killed helper began cannot be undone while another's lock is there; nobody else has to wait for that."""
    done, _ = repository.call('prepare', repository.request(1, name='fix'), env={'DROVER_FAIL': 'branch_created'})
    if done.returncode == 0:
        pytest.skip('this build has no failpoints: clearing up under a foreign lock is not tested')
    lock = lay(os.path.join(repository.common, 'packed-refs.lock'))
    begun = time.monotonic()
    repository.prepare(2)
    assert time.monotonic() - begun < 10
    assert repository.branches() == ['parallel/2', 'parallel/fix'] and read(lock) == 'left\n'
    assert repository.prepare(3, name='fix')['branch'] == 'parallel/fix-3'
    os.unlink(lock)
    repository.prepare(4)
    assert repository.branches() == ['parallel/2', 'parallel/4', 'parallel/fix-3']


def test_undoing_waits_for_a_live_lock(repository):
    done, _ = repository.call('prepare', repository.request(1, name='fix'), env={'DROVER_FAIL': 'branch_created'})
    if done.returncode == 0:
        pytest.skip('this build has no failpoints: undoing under a live lock is not tested')
    lock = os.path.join(repository.common, 'packed-refs.lock')
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with holding(lock) as process:
            request = dict(repository.request(1), path=None, branch=None)
            collecting = pool.submit(repository.bad, 'collect', request, 'worktree-missing')
            with pytest.raises(concurrent.futures.TimeoutError):
                collecting.result(timeout=1)
            os.unlink(lock)
            process.stdin.close()
        collecting.result(timeout=40)
    assert repository.branches() == []


def test_while_others_commit_in_the_worktree(repository):
    """Short locks, one after another: the collection gets in between."""
    made = begin(repository)
    own = commit_in(made['path'], 'own')
    script = 'while :; do git add -A; git update-index --refresh; git status; done'
    with subprocess.Popen(['sh', '-c', script], cwd=made['path'], env=repository.environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as busy:
        try:
            done = [repository.collect(1, made, has_succeeded=False) for _ in range(5)][-1]
        finally:
            os.killpg(busy.pid, 9)
    harness.wait_until(lambda: not harness.children_of(busy.pid), 10, 'the busy git is gone')
    assert done['changed_files'] == 3 and repository.git('rev-parse', 'parallel/fix~1') == own
    with contextlib.suppress(FileNotFoundError):
        os.unlink(in_admin(repository, 'index.lock'))


def test_the_sentence_reaches_the_user(drover, repository_of_drover):
    """The work stays in the worktree, and `show` names the file."""
    script = 'echo n > new; touch -d "2 hours ago" "$(git rev-parse --git-dir)/index.lock"'
    drover.run('run', '--worktree', '--name', 'fix', '--', 'sh', '-c', script)
    task = drover.task('fix')
    lock = os.path.join(repository_of_drover, '.git', 'worktrees', 'fix', 'index.lock')
    assert lock in task['cause'] and '2h00m old' in task['cause'], task
    assert read(os.path.join(task['worktree'], 'new')) == 'n\n' and os.path.exists(lock)
    assert git('status', '--porcelain', cwd=repository_of_drover) == ''


@pytest.fixture
def repository_of_drover(drover):
    folder = os.path.join(drover.folder, 'repository')
    harness.make_repository(folder)
    drover.work = folder
    return folder
