"""Repositories of every condition: each is served, or refused with the reason before anything is made. FAULTS 48.

The refusals that a submission can know come from `inspect`; the last tests see them through `drover run --worktree`.
"""
import hashlib
import os
import shutil
import subprocess
import tempfile

import pytest

from harness import git, read, write
from repositories import Repository, commit_in, find_helper

FILES = {'README': 'hello\n', 'src/a.c': 'int a;\n', 'doc/b': 'b\n'}
LFS_POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:' + 'a' * 64 + '\nsize 5\n'


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def tree_of(path):
    """Every file with its content: what a refusal may not change."""
    found = {}
    for place, folders, names in os.walk(path):
        found[place] = sorted(folders + names)
        for name in names:
            file = os.path.join(place, name)
            if os.path.islink(file):
                found[file] = os.readlink(file)
            else:
                with open(file, 'rb') as opened:
                    found[file] = hashlib.sha256(opened.read()).hexdigest()
    return found


class Place:
    """Where a task is submitted: a directory of a repository in some condition."""

    def __init__(self, repository, directory=None, base=None):
        self.repository = repository
        self.directory = directory or repository.path
        self.base = base


def clone_of(source, name, *options):
    """A Repository that is a clone of another."""
    made = Repository.__new__(Repository)
    made.__dict__.update(source.__dict__)
    made.path = os.path.join(source.folder, name)
    made.common = os.path.join(made.path, '.git')
    git('clone', '-q', *options, made.path, cwd=source.folder)
    return made


def make_source(folder):
    source = Repository(folder, name='source', files=FILES)
    commit_in(source.path, 'README', 'second\n')
    commit_in(source.path, 'third')
    for name in ('uploadpack.allowFilter', 'uploadpack.allowAnySHA1InWant'):
        source.git('config', name, 'true')
    return source


def object_path(repository, revision):
    name = repository.git('rev-parse', revision)
    return os.path.join(repository.common, 'objects', name[:2], name[2:])


# ---- those that are served ----

def plain(folder):
    return Place(Repository(folder, files=FILES))


def shallow(folder):
    return Place(clone_of(make_source(folder), 'clone', '--depth=1', f'file://{folder}/source'))


def sha256(folder):
    return Place(Repository(folder, files=FILES, init=['--object-format=sha256']))


def sha256_sparse(folder):
    made = Repository(folder, files=FILES, init=['--object-format=sha256'])
    made.git('sparse-checkout', 'set', 'src')
    return Place(made)


def sparse_cone(folder):
    made = Repository(folder, files=FILES)
    made.git('sparse-checkout', 'set', 'src')
    return Place(made)


def sparse_patterns(folder):
    made = Repository(folder, files=FILES)
    made.git('sparse-checkout', 'set', '--no-cone', '/src/', '/README')
    return Place(made)


def sparse_index(folder):
    made = Repository(folder, files=FILES)
    made.git('sparse-checkout', 'set', '--sparse-index', 'src')
    return Place(made)


def alternates(folder):
    return Place(clone_of(make_source(folder), 'clone', '--shared', f'{folder}/source'))


def partial_with_files(folder):
    return Place(clone_of(make_source(folder), 'clone', '--filter=blob:none', f'file://{folder}/source'))


def partial_sparse(folder):
    made = clone_of(make_source(folder), 'clone', '--filter=blob:none', '--sparse', f'file://{folder}/source')
    made.git('sparse-checkout', 'set', 'src')
    return Place(made)


def in_a_submodule(folder):
    other, outer = Repository(folder, name='other', files=FILES), Repository(folder)
    outer.git('-c', 'protocol.file.allow=always', 'submodule', 'add', '-q', other.path, 'sub')
    outer.git('commit', '-qm', 'submodule')
    other.path, other.common = os.path.join(outer.path, 'sub'), os.path.join(outer.common, 'modules', 'sub')
    return Place(other)


def with_a_submodule(folder):
    place = in_a_submodule(folder)
    outer = clone_of(place.repository, 'outer', os.path.join(folder, 'repo'))
    write(os.path.join(outer.path, '.gitmodules'), read(os.path.join(outer.path, '.gitmodules')) + '\tupdate = !false\n')
    return Place(outer)


def core_worktree(folder):
    made = Repository(folder, files=FILES)
    elsewhere = os.path.join(folder, 'elsewhere')
    os.mkdir(elsewhere)
    made.git('config', 'core.worktree', elsewhere)
    write(os.path.join(elsewhere, '.git'), f'gitdir: {made.common}\n')
    return Place(made, directory=elsewhere)


def in_a_worktree_of_drovers(folder):
    made = Repository(folder, files=FILES)
    return Place(made, directory=made.prepare(5)['path'])


def unborn_with_a_base(folder):
    made = Repository(folder, files=FILES)
    made.git('symbolic-ref', 'HEAD', 'refs/heads/none')
    return Place(made, base='main')


def detached(folder):
    made = Repository(folder, files=FILES)
    made.git('checkout', '-q', '--detach')
    return Place(made)


def packed_refs(folder):
    made = Repository(folder, files=FILES)
    made.git('branch', 'parallel/FIX')
    made.git('pack-refs', '--all')
    return Place(made)


def split_index(folder):
    made = Repository(folder, files=FILES)
    made.git('config', 'core.splitIndex', 'true')
    made.git('update-index', '--split-index')
    return Place(made)


def line_ends(folder):
    made = Repository(folder, files=dict(FILES, **{'.gitattributes': '* text=auto eol=crlf\n'}))
    made.git('config', 'core.autocrlf', 'true')
    made.git('config', 'core.safecrlf', 'true')
    return Place(made)


def with_lfs(folder, has_program=False):
    """git-lfs is configured as `git lfs install` does; the program is there or not."""
    made = Repository(folder, files=dict(FILES, **{'.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n',
                                                   'a.bin': LFS_POINTER}))
    if has_program:
        tools = os.path.join(folder, 'tools')
        os.mkdir(tools)
        write(os.path.join(tools, 'git-lfs'), f'#!/bin/sh\necho "$*" >> {folder}/lfs-ran\ncat\n', 0o755)
        made.environment['PATH'] = tools + ':' + made.environment['PATH']
    for key, value in {'clean': 'git-lfs clean -- %f', 'smudge': 'git-lfs smudge -- %f', 'process': 'git-lfs filter-process',
                       'required': 'true'}.items():
        made.git('config', 'filter.lfs.' + key, value)
    return Place(made)


def with_lfs_and_its_program(folder):
    return with_lfs(folder, has_program=True)


SERVED = [plain, shallow, sha256, sha256_sparse, sparse_cone, sparse_patterns, sparse_index, alternates, partial_with_files,
          partial_sparse, in_a_submodule, with_a_submodule, core_worktree, in_a_worktree_of_drovers, unborn_with_a_base,
          detached, packed_refs, split_index, line_ends, with_lfs, with_lfs_and_its_program]


@pytest.mark.parametrize('make', SERVED, ids=lambda make: make.__name__)
def test_served(folder, make):
    place = make(folder)
    repository = place.repository
    found = repository.good('inspect', {'directory': place.directory, 'base': place.base})
    repository.common = found['common_dir']
    before = {name: read(os.path.join(repository.common, name)) for name in ('config', 'HEAD')}
    with open(os.path.join(repository.common, 'index'), 'rb') as file:
        index = file.read()
    request = dict(repository.request(1, name='fix'), **{key: found[key] for key in ('top', 'common_dir', 'commit')})
    made = repository.good('prepare', request)
    # A git without the repository's configured programs sees it clean.
    status = repository.call_git('status', '--porcelain', cwd=made['path'])
    assert (status.returncode, status.stdout) == (0, ''), status
    write(os.path.join(made['path'], 'src', 'new'), 'n\n')
    write(os.path.join(made['path'], 'src', 'a.c'), 'int b;\n')
    done = repository.good('collect', dict(request, **made, has_succeeded=True))
    assert done['is_removed'] and done['note'] is None and done['changed_files'] == 2
    assert not os.path.exists(made['path'])

    def ls(revision):
        return git('ls-tree', '-r', '--name-only', revision, cwd=found['top']).split()
    assert ls(made['branch']) == sorted(ls(found['commit']) + ['src/new'])
    assert git('rev-parse', f'{made["branch"]}~1', cwd=found['top']) == found['commit']
    if 'a.bin' in ls(found['commit']):
        assert git('show', f'{made["branch"]}:a.bin', cwd=found['top']) + '\n' == LFS_POINTER
    assert not os.path.exists(os.path.join(folder, 'lfs-ran'))
    assert {name: read(os.path.join(repository.common, name)) for name in ('config', 'HEAD')} == before
    with open(os.path.join(repository.common, 'index'), 'rb') as file:
        assert file.read() == index
    assert repository.residue() == []
    git('fsck', '--connectivity-only', cwd=found['top'])


# ---- those that are refused ----

def reftable(folder):
    made = Repository(folder)
    made.git('config', 'core.repositoryFormatVersion', '1')
    made.git('config', 'extensions.refStorage', 'reftable')
    if subprocess.run(['git', 'status'], cwd=made.path, capture_output=True, check=False).returncode == 0:
        pytest.skip('this git knows reftable: that it is told what git does not know is not tested')
    return Place(made), 'git-too-old', ["'refstorage'", 'newer git']


def unknown_extensions(folder):
    made = Repository(folder)
    write(os.path.join(made.common, 'config'), '[core]\n repositoryFormatVersion = 1\n[extensions]\n one = x\n two = x\n')
    return Place(made), 'git-too-old', ["'one', 'two'", 'newer git']


def unknown_format(folder):
    made = Repository(folder)
    made.git('config', 'core.repositoryFormatVersion', '7')
    return Place(made), 'git-too-old', ['format', 'newer git']


def unborn(folder):
    made = Repository(folder)
    made.git('symbolic-ref', 'HEAD', 'refs/heads/none')
    return Place(made), 'no-commit', ['commit something first']


def head_is_garbage(folder):
    made = Repository(folder)
    write(os.path.join(made.common, 'HEAD'), 'garbage\n')
    return Place(made, os.path.join(made.path, 'src')), 'damaged-repository', [made.common, 'damaged']


def head_is_gone(folder):
    made = Repository(folder)
    os.unlink(os.path.join(made.common, 'HEAD'))
    return Place(made), 'damaged-repository', [made.common, 'damaged']


def refs_are_gone(folder):
    made = Repository(folder)
    shutil.rmtree(os.path.join(made.common, 'refs'))
    return Place(made), 'damaged-repository', [made.common, 'damaged']


def head_names_what_is_not_there(folder):
    made = Repository(folder)
    write(os.path.join(made.common, 'HEAD'), 'f' * 40 + '\n')
    return Place(made), 'damaged-repository', ['f' * 40, 'git fsck']


def commit_is_missing(folder):
    made = Repository(folder)
    os.unlink(object_path(made, 'HEAD'))
    return Place(made), 'damaged-repository', [made.base, 'git fsck']


def config_is_broken(folder):
    made = Repository(folder)
    write(os.path.join(made.common, 'config'), '[core\n')
    return Place(made), 'git-failed', ['bad config line 1']


def git_file_points_to_nothing(folder):
    made = Repository(folder)
    shutil.rmtree(made.common)
    write(made.common, 'gitdir: /nowhere\n')
    return Place(made), 'damaged-repository', [made.common, 'points to what is gone']


def alternates_are_gone(folder):
    source = make_source(folder)
    made = clone_of(source, 'clone', '--shared', source.path)
    os.rename(source.path, source.path + '-moved')
    return Place(made), 'damaged-repository', ['git fsck']


def partial_without_files(folder):
    made = clone_of(make_source(folder), 'clone', '--filter=blob:none', '--no-checkout', f'file://{folder}/source')
    return Place(made), 'objects-missing', ['partial clone', 'git fetch --refetch --no-filter']


def partial_without_trees(folder):
    made = clone_of(make_source(folder), 'clone', '--filter=tree:0', '--no-checkout', f'file://{folder}/source')
    return Place(made), 'objects-missing', ['partial clone']


def partial_at_an_old_base(folder):
    made = clone_of(make_source(folder), 'clone', '--filter=blob:none', f'file://{folder}/source')
    return Place(made, base='HEAD~2'), 'objects-missing', ['(1 seen)']


def bare(folder):
    made = clone_of(make_source(folder), 'clone', '--bare', f'{folder}/source')
    return Place(made), 'bare-repository', ['name a checkout']


def configured_bare(folder):
    made = Repository(folder)
    made.git('config', 'core.bare', 'true')
    return Place(made), 'bare-repository', ['name a checkout']


def beside_its_worktree(folder):
    place = core_worktree(folder)
    return Place(place.repository), 'not-a-repository', ['not in a checkout']


def foreign_owner(folder):
    made = Repository(folder)
    if os.geteuid() != 0:
        pytest.skip('needs root to give a repository to another user')
    os.chown(made.path, 65534, 65534)
    os.chown(made.common, 65534, 65534)
    return Place(made), 'unsafe-owner', ['another user', 'safe.directory']


REFUSED = [reftable, unknown_extensions, unknown_format, unborn, head_is_garbage, head_is_gone, refs_are_gone,
           head_names_what_is_not_there, commit_is_missing, config_is_broken, git_file_points_to_nothing,
           alternates_are_gone, partial_without_files, partial_without_trees, partial_at_an_old_base, bare, configured_bare,
           beside_its_worktree, foreign_owner]


@pytest.mark.parametrize('make', REFUSED, ids=lambda make: make.__name__)
def test_refused_before_anything_is_made(folder, make):
    place, code, words = make(folder)
    before = tree_of(folder)
    done = place.repository.bad('inspect', {'directory': place.directory, 'base': place.base}, code)
    for word in words:
        assert word in done['error']['message'], done
    assert tree_of(folder) == before


OTHER_USER = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']


@pytest.fixture
def open_folder():
    """A folder that other users can reach."""
    made = tempfile.mkdtemp(prefix='drover-test-')
    os.chmod(made, 0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to mount read-only')
def test_a_read_only_file_system(folder):
    repository = Repository(folder)
    before = tree_of(folder)
    script = f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}" && exec "$@"'
    repository.bad('inspect', {'directory': repository.path}, 'no-access', 'Read-only file system',
                   before=['unshare', '-m', 'sh', '-c', script, 'sh'])
    assert tree_of(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to become another user')
def test_a_repository_that_another_user_may_only_read(open_folder):
    repository = Repository(open_folder)
    write(os.path.join(repository.home, '.gitconfig'), '[safe]\n directory = *\n')
    if subprocess.run([*OTHER_USER, 'test', '-x', find_helper()], check=False).returncode != 0:
        pytest.skip('another user cannot reach the programs of this build')
    before = tree_of(open_folder)
    repository.bad('inspect', {'directory': repository.path}, 'no-access', repository.common, before=OTHER_USER)
    assert tree_of(open_folder) == before


# ---- what only shows when the files are written: nothing of it is left ----

@pytest.mark.parametrize('what', ['HEAD:README', 'HEAD:src', 'HEAD^{tree}'])
@pytest.mark.parametrize('how', ['missing', 'garbage', 'empty'])
def test_objects_that_are_damaged(folder, what, how):
    repository = Repository(folder)
    path = object_path(repository, what)
    os.chmod(path, 0o644)
    if how == 'missing':
        os.unlink(path)
    else:
        write(path, 'junk' if how == 'garbage' else '')
    config = read(os.path.join(repository.common, 'config'))
    done, output = repository.call('inspect', {'directory': repository.path})
    if done.returncode == 0:
        repository.bad('prepare', repository.request(1, name='fix'), 'git-failed', 'task 1')
    else:
        assert output['error']['message']
    assert repository.branches() == repository.admins() == repository.residue() == []
    root = os.path.join(repository.path, '.parallel-worktrees')
    assert not os.path.exists(root) or repository.worktrees() == []
    assert read(os.path.join(repository.common, 'config')) == config
    assert repository.git('rev-parse', 'main') == repository.base


def test_a_base_that_was_taken_away_since(folder):
    """Pinned at submission, gone at the start: as after a foreign `git gc --prune=now`."""
    repository = Repository(folder)
    gone = repository.git('commit-tree', '-m', 'loose', 'HEAD^{tree}')
    os.unlink(object_path(repository, gone))
    repository.bad('prepare', dict(repository.request(1, name='fix'), commit=gone), 'git-failed')
    assert repository.branches() == repository.admins() == repository.residue() == repository.worktrees() == []


# ---- nothing is fetched ----

@pytest.mark.parametrize('make', [partial_with_files, partial_without_files, partial_sparse],
                         ids=lambda make: make.__name__)
def test_nothing_is_fetched(folder, make):
    """The remote of a partial clone is a program that leaves a mark: it is not asked, whatever is missing."""
    made = make(folder)
    repository = (made[0] if isinstance(made, tuple) else made).repository
    mark = os.path.join(folder, 'fetched')
    trap = write(os.path.join(folder, 'trap'), f'#!/bin/sh\necho "$*" >> {mark}\nexit 1\n', 0o755)
    for url in (f'ext::{trap} %S', f'ssh://host{folder}/x'):
        repository.git('config', 'remote.origin.url', url)
        for key, value in {'core.sshCommand': trap, 'remote.origin.uploadpack': trap, 'protocol.allow': 'always',
                           'protocol.ext.allow': 'always'}.items():
            repository.git('config', key, value)
        subprocess.run(['git', 'fetch', 'origin'], cwd=repository.path, capture_output=True, check=False,
                       env=repository.environment)
        assert os.path.exists(mark), 'the trap does not work'
        os.unlink(mark)
        found, told = repository.call('inspect', {'directory': repository.path})
        base = repository.git('rev-parse', 'HEAD')
        request = dict(repository.request(1, name='fix'), commit=base)
        done, made = repository.call('prepare', request)
        if done.returncode == 0:
            write(os.path.join(made['path'], 'README'), 'changed\n')
            repository.good('collect', dict(request, **made, has_succeeded=True))
        assert (found.returncode == 0) == (done.returncode == 0), (told, made)
        assert not os.path.exists(mark), read(mark)
        assert repository.residue() == []


# ---- through drover ----

@pytest.mark.parametrize('make', [reftable, head_is_garbage, commit_is_missing, partial_without_files, foreign_owner],
                         ids=lambda make: make.__name__)
def test_the_refusal_comes_with_the_submission(drover, make):
    place, _, words = make(os.path.join(drover.folder, 'work'))
    before = tree_of(place.repository.path)
    drover.bad(2, 'run', '--worktree', *(['--base', place.base] if place.base else []), '--', 'true', cwd=place.directory,
               says=words)
    assert tree_of(place.repository.path) == before and drover.tasks() == []


@pytest.mark.parametrize('make', [shallow, sha256, sparse_cone, in_a_submodule, with_lfs], ids=lambda make: make.__name__)
def test_a_task_is_served(drover, make):
    place = make(os.path.join(drover.folder, 'work'))
    drover.good('run', '--worktree', '--name', 'fix', '--', 'sh', '-c', 'echo n > src/new', cwd=place.directory)
    assert git('show', 'parallel/fix:src/new', cwd=place.directory) == 'n'
    assert drover.task('fix')['changed_files'] == 1


def test_a_damaged_object_is_told_of(drover):
    repository = Repository(os.path.join(drover.folder, 'work'))
    os.unlink(object_path(repository, 'HEAD:README'))
    assert drover.run('run', '--worktree', '--name', 'fix', '--', 'true', cwd=repository.path).returncode == 1
    task = drover.task('fix')
    assert task['state'] == 'failed' and 'README' in task['cause'], task
    assert repository.branches() == repository.admins() == repository.worktrees() == []
