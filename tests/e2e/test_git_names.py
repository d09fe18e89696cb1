"""Names that exist already, that clash, or that something could misread: suffixed or refused beforehand, and nothing of the
user's is touched. FAULTS 45, 49.
"""
import json
import os
import shutil
import subprocess

import pytest

import harness
from harness import git, read, write
from repositories import Repository, commit_in


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


@pytest.fixture
def repository(folder):
    made = Repository(folder)
    before = made.fingerprint()
    yield made
    assert made.fingerprint() == before
    made.assert_sound()


def refs_of(repository):
    return set(repository.git('for-each-ref', '--format=%(refname) %(objectname)').splitlines())


def serve(repository, task, name='fix', gone=''):
    """A worktree made, worked in and removed; nothing that was there before is otherwise, but for `gone`. The branch."""
    before = {ref for ref in refs_of(repository) if not gone or not ref.startswith(gone)}
    made = repository.prepare(task, name=name)
    write(os.path.join(made['path'], 'new'), 'n\n')
    assert repository.collect(task, made)['is_removed']
    assert before <= refs_of(repository)
    assert repository.git('show', f'{made["branch"]}:new') == 'n'
    return made['branch']


# ---- branches ----

@pytest.mark.parametrize('is_packed', [False, True])
@pytest.mark.parametrize('taken, name', [('fix', 'fix'), ('FIX', 'fix'), ('fix/leaf', 'fix'), ('Fix/Leaf', 'fix'),
                                         ('fix/a/b/c', 'fix')])
def test_a_branch_that_is_in_the_way(repository, taken, name, is_packed):
    other = commit_elsewhere(repository)
    repository.git('branch', f'parallel/{taken}', other)
    if is_packed:
        repository.git('pack-refs', '--all', '--prune')
        assert not os.path.exists(os.path.join(repository.common, 'refs', 'heads', 'parallel'))
    assert serve(repository, 7, name) == 'parallel/fix-7'
    assert repository.git('rev-parse', f'parallel/{taken}') == other


def commit_elsewhere(repository):
    return repository.git('commit-tree', '-m', 'of the user', f'{repository.base}^{{tree}}', '-p', repository.base)


@pytest.mark.parametrize('is_packed', [False, True])
def test_a_branch_above_all_of_ours(repository, is_packed):
    repository.git('branch', 'parallel')
    if is_packed:
        repository.git('pack-refs', '--all', '--prune')
    repository.bad('prepare', repository.request(1, name='fix'), 'name-taken', 'rename it')
    assert repository.admins() == repository.worktrees() == []
    repository.git('branch', '-m', 'parallel', 'mine')
    serve(repository, 1)


def test_a_branch_that_is_checked_out_elsewhere(repository):
    linked = os.path.join(repository.folder, 'linked')
    repository.git('worktree', 'add', '-q', '-b', 'parallel/fix', linked)
    own = commit_in(linked, 'mine')
    assert serve(repository, 7) == 'parallel/fix-7'
    assert git('status', '--porcelain', '--branch', cwd=linked) == '## parallel/fix'
    assert repository.git('rev-parse', 'parallel/fix') == own and repository.admins() == ['linked']


def test_a_branch_that_cannot_be_read(repository):
    """Damaged by somebody: it is not replaced."""
    serve(repository, 1, 'first')
    path = write(os.path.join(repository.common, 'refs', 'heads', 'parallel', 'fix'), 'garbage\n')
    done, output = repository.call('prepare', repository.request(7, name='fix'))
    assert done.returncode == 0 and output['branch'] == 'parallel/fix-7', output
    assert read(path) == 'garbage\n'
    os.unlink(path)


def test_names_that_mean_something_to_git(repository):
    for task, name in enumerate(['HEAD', 'FETCH_HEAD', 'stash', '0' * 40, 'a' * 64], 1):
        expected = f'parallel/{task}' if name == '0' * 40 else f'parallel/{name}'
        assert serve(repository, task, name) == expected
    assert read(os.path.join(repository.common, 'HEAD')) == 'ref: refs/heads/main\n'


def test_other_refs_of_the_same_name(repository):
    """A tag and a remote's branch called as ours will be: nothing becomes ambiguous."""
    other = commit_elsewhere(repository)
    for ref in ('refs/tags/parallel/fix', 'refs/remotes/parallel/fix', 'refs/parallel/fix',
                'refs/heads/refs/heads/parallel/fix'):
        repository.git('update-ref', ref, other)
    made = repository.prepare(1, name='fix')
    assert git('symbolic-ref', 'HEAD', cwd=made['path']) == 'refs/heads/parallel/fix'
    assert git('rev-parse', 'HEAD', cwd=made['path']) == repository.base
    write(os.path.join(made['path'], 'new'), 'n\n')
    done = repository.collect(1, made)
    assert repository.git('rev-parse', 'refs/heads/parallel/fix') == done['commit']
    for ref in ('refs/tags/parallel/fix', 'refs/remotes/parallel/fix', 'refs/parallel/fix'):
        assert repository.git('rev-parse', ref) == other


ODD_BRANCHES = ['-rf', '--force', 'ünï/日本', '"quoted"', "it's", '$(touch${IFS}pwned)', ';x', '|x', '`x`', '@', '@x', 'x@',
                '{x}', '#x', '%x', '(x)', 'parallel/-rf', 'parallel/ü', 'parallel/"q"', 'parallel/--', 'x' * 240,
                'parallel/' + 'y' * 240]


@pytest.mark.parametrize('is_packed', [False, True])
def test_odd_branches_of_the_users(repository, is_packed):
    for name in ODD_BRANCHES:
        repository.git('update-ref', f'refs/heads/{name}', repository.base)
    if is_packed:
        repository.git('pack-refs', '--all', '--prune')
    before = refs_of(repository)
    repository.good('inspect', {'directory': repository.path})
    assert serve(repository, 1) == 'parallel/fix'
    killed, _ = repository.call('prepare', repository.request(2, name='dead'), env={'DROVER_FAIL': 'worktree_added'})
    assert serve(repository, 3, 'more', gone='refs/heads/parallel/dead ') == 'parallel/more'
    ours = ('refs/heads/parallel/fix ', 'refs/heads/parallel/more ')
    now = {ref for ref in refs_of(repository) if not ref.startswith(ours)}
    assert now - before == (set() if killed.returncode else {f'refs/heads/parallel/dead {repository.base}'})
    assert before <= now


@pytest.mark.parametrize('base', ['-rf', 'ünï/日本', '"quoted"', '@', 'x@', 'parallel/-rf'])
def test_an_odd_branch_as_base(repository, base):
    other = commit_elsewhere(repository)
    repository.git('update-ref', f'refs/heads/{base}', other)
    done, found = repository.call('inspect', {'directory': repository.path, 'base': base})
    if base == '@':
        assert found['commit'] == repository.base  # as git has it: HEAD
    else:
        assert done.returncode == 0 and found['commit'] == other, found


# ---- directories ----

@pytest.mark.parametrize('kind', ['file', 'directory', 'link', 'dangling', 'other-case'])
def test_a_path_that_is_in_the_way(repository, kind):
    serve(repository, 1, 'first')
    path = os.path.join(repository.path, '.parallel-worktrees', 'FIX' if kind == 'other-case' else 'fix')
    target = os.path.join(repository.folder, 'target')
    if kind == 'file':
        write(path, 'mine\n')
    elif kind in ('directory', 'other-case'):
        os.mkdir(path)
        write(os.path.join(path, 'mine'), 'm\n')
    else:
        if kind == 'link':
            os.mkdir(target)
        os.symlink(target, path)
    before = os.lstat(path)
    made = repository.prepare(7, name='fix')
    assert made['path'].endswith('/fix-7') and made['branch'] == 'parallel/fix'
    assert repository.collect(7, made)['is_removed']
    assert os.lstat(path).st_ino == before.st_ino
    if kind == 'link':
        assert os.listdir(target) == []
    if kind in ('directory', 'other-case'):
        assert read(os.path.join(path, 'mine')) == 'm\n'
        shutil.rmtree(path)
    else:
        os.unlink(path)


def test_an_admin_directory_that_is_in_the_way(repository):
    """Of a worktree of the user's with the same last name, somewhere else."""
    linked = os.path.join(repository.folder, 'fix')
    repository.git('worktree', 'add', '-q', '-b', 'side', linked)
    made = repository.prepare(1, name='fix')
    assert repository.admins() == ['fix', 'fix1'] and made['path'].endswith('.parallel-worktrees/fix')
    assert repository.collect(1, made)['is_removed']
    assert repository.admins() == ['fix'] and git('status', '--porcelain', '--branch', cwd=linked) == '## side'


ODD_PLACES = ['with blank', 'line\nbreak', '-rf', 'ünï', 'x' * 250, '.hidden', '@{u}', '$(touch pwned)', '"q"',
              'locked\nworktree']


def test_odd_worktrees_of_the_users(repository):
    """A line break in a path makes `git worktree list --porcelain` lie; nothing of ours reads that."""
    places = [os.path.join(repository.folder, name) for name in ODD_PLACES]
    for number, place in enumerate(places):
        repository.git('worktree', 'add', '-q', '-b', f'side-{number}', '--', place)
    admins = repository.admins()
    made = repository.prepare(1, name='fix')
    killed, _ = repository.call('prepare', repository.request(2, name='dead'), env={'DROVER_FAIL': 'worktree_added'})
    write(os.path.join(made['path'], 'new'), 'n\n')
    assert repository.collect(1, made)['is_removed']
    serve(repository, 3, 'more', gone='refs/heads/parallel/dead ')
    assert repository.admins() == sorted(admins + ([] if killed.returncode else ['dead']))
    for number, place in enumerate(places):
        if '\n' not in place:  # git itself does not find these again
            assert git('status', '--porcelain', '--branch', cwd=place) == f'## side-{number}'
        assert read(os.path.join(place, 'README')) == 'hello\n'
    assert not os.path.exists(os.path.join(repository.path, 'pwned'))


@pytest.mark.parametrize('name', ['with blank', 'mit-Ümläut-日本', '-rf', "it's \"here\" $(touch pwned)", 'x' * 200])
def test_odd_places_of_a_repository(drover, name):
    place = os.path.join(drover.folder, 'places', name)
    harness.make_repository(place)
    out = drover.good('run', '--worktree', '--name', 'fix', '--', 'sh', '-c', 'pwd; echo n > new', cwd=place)
    assert out.rstrip('\n') == os.path.join(place, '.parallel-worktrees', 'fix')
    assert git('show', 'parallel/fix:new', cwd=place) == 'n'
    assert git('status', '--porcelain', cwd=place) == ''


@pytest.mark.parametrize('name', ['line\nbreak', b'latin-\xfc'])
def test_places_that_are_refused(drover, name):
    place = os.path.join(os.fsencode(drover.folder), os.fsencode(name))
    os.mkdir(place)
    commit = ['-c', 'user.name=x', '-c', 'user.email=x@y', 'commit', '-q', '--allow-empty', '-m', 'x']
    for arguments in (['init', '-q', '-b', 'main'], commit):
        subprocess.run(['git', *arguments], cwd=place, check=True)
    drover.bad(2, 'run', '--worktree', '--', 'true', cwd=place)
    assert sorted(os.listdir(place)) == [b'.git'] and drover.tasks() == []


# ---- names of tasks ----

REFUSED_NAMES = ['a\nb', 'a b', 'ü', 'x' * 255, 'a/b', '../x', '@{u}', '123', '$(x)', 'a~1', '*', '\x1b[31m']


def test_task_names_that_are_refused_beforehand(drover, repository_of_drover):
    batch = os.path.join(drover.folder, 'b.yaml')
    for name in REFUSED_NAMES:
        said = drover.bad(2, 'run', '--worktree', '--name', name, '--', 'true', says='name')
        write(batch, f'tasks: [{{name: {json.dumps(name)}, run: "true", worktree: checkout}}]\n')
        said += drover.bad(2, 'run', '-f', batch, says='name')
        assert '\x1b' not in said and drover.tasks() == [], name
    assert not os.path.exists(os.path.join(repository_of_drover, '.parallel-worktrees'))


def test_task_names_that_git_could_misread(drover, repository_of_drover):
    """Refused, or served under a name of our own making."""
    served = []
    for name in ('-rf', '..', '.', '.hidden', '-', '--', 'a..b', 'a.lock', 'a.', 'x' * 64):
        done = drover.run('run', '--worktree', f'--name={name}', '--', 'sh', '-c', 'echo n > new')
        if done.returncode == 2:
            assert 'name' in done.stderr and len(drover.tasks()) == len(served), name
            continue
        assert done.returncode == 0, done.stderr
        served.append(name)
        branch = drover.task(len(served))['branch']
        assert branch == f'parallel/{name if name == "x" * 64 else len(served)}'
        assert git('show', f'{branch}:new', cwd=repository_of_drover) == 'n'
    assert served == ['a..b', 'a.lock', 'a.', 'x' * 64]
    assert git('status', '--porcelain', cwd=repository_of_drover) == ''


@pytest.fixture
def repository_of_drover(drover):
    folder = os.path.join(drover.folder, 'repository')
    harness.make_repository(folder)
    drover.work = folder
    return folder
