"""Everything that git can be made to run by what others wrote: no verb of drover's sets it off. FAULTS 50.

Each vector comes with an ordinary git command that does set it off, so that no test passes because its trap is broken.
"""
import os
import shutil
import subprocess

import pytest

import harness
from harness import git, read, write
from repositories import Repository, commit_in, make_trap

IDENTITY = {f'GIT_{who}_{what}': 'x' for who in ('AUTHOR', 'COMMITTER') for what in ('NAME', 'EMAIL')}
NO_FSMONITOR = {'GIT_CONFIG_COUNT': '1', 'GIT_CONFIG_KEY_0': 'core.fsmonitor', 'GIT_CONFIG_VALUE_0': 'false'}


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


class Trapped:
    """A repository and a program that leaves a mark when anything runs it."""

    def __init__(self, folder):
        self.repository = Repository(folder, files={'README': 'hello\n', 'b.two': '2\n', 'src/a.c': 'a\n'})
        self.mark = os.path.join(folder, 'mark')
        self.script = make_trap(folder, self.mark)
        self.quitter = write(os.path.join(folder, 'quitter.sh'),
                             f'#!/bin/sh\necho "$0 $*" >> "{self.mark}"\nexit 1\n', 0o755)
        self.folder = folder

    def config(self, **settings):
        """core__pager='x' sets core.pager."""
        for key, value in settings.items():
            self.repository.git('config', key.replace('__', '.'), value, **NO_FSMONITOR)

    def attributes(self, text):
        write(os.path.join(self.repository.common, 'info', 'attributes'), text)

    def hook(self, name, folder=None):
        folder = folder or os.path.join(self.repository.common, 'hooks')
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(self.script, path)

    def touch(self, name='README', text='touched\n'):
        write(os.path.join(self.repository.path, name), text)

    def does(self, command, **environment):
        """An ordinary user's command; how it ends is its own affair."""
        subprocess.run(['sh', '-c', command], cwd=self.repository.path, stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=30, check=False, env=dict(self.repository.environment, **IDENTITY, **environment))


def hook(name, command):
    def arm(trapped):
        trapped.hook(name)
        return command
    arm.__name__ = 'hook_' + name.replace('-', '_')
    return arm


def setting(key, command, value='{}', **more):
    def arm(trapped):
        trapped.config(**{key: value.format(trapped.script)}, **more)
        return command
    arm.__name__ = key.replace('__', '_').replace('.', '_')
    return arm


def filtered(key):
    def arm(trapped):
        trapped.config(**{f'filter__x__{key}': trapped.script, 'filter__x__required': 'true'})
        trapped.attributes('* filter=x\n')
        return 'rm README; git checkout README; echo x > README; git add README'
    arm.__name__ = 'filter_' + key
    return arm


def filter_from_the_tree(trapped):
    trapped.config(filter__x__clean=trapped.script)
    commit_in(trapped.repository.path, '.gitattributes', '*.two filter=x\n')
    trapped.repository.base = trapped.repository.git('rev-parse', 'HEAD')
    return 'echo x > b.two; git add b.two'


def filter_from_an_attributes_file(trapped):
    file = write(os.path.join(trapped.folder, 'attributes'), '* filter=x\n')
    trapped.config(filter__x__clean=trapped.script, core__attributesFile=file)
    return 'echo x > README; git add README'


def hooks_path(trapped):
    folder = os.path.join(trapped.folder, 'hooks')
    for name in ('post-checkout', 'reference-transaction', 'post-index-change'):
        trapped.hook(name, folder)
    trapped.config(core__hooksPath=folder)
    return 'git branch x'


def hooks_path_relative(trapped):
    """Relative to the worktree: the task's own files would be the hooks."""
    for name in ('post-checkout', 'reference-transaction'):
        trapped.hook(name, os.path.join(trapped.repository.path, 'hooks'))
    trapped.repository.git('add', 'hooks')
    trapped.repository.git('commit', '-qm', 'hooks')
    trapped.repository.base = trapped.repository.git('rev-parse', 'HEAD')
    trapped.config(core__hooksPath='hooks')
    return 'git branch x'


def textconv(trapped):
    trapped.config(diff__x__textconv=trapped.script)
    trapped.attributes('* diff=x\n')
    return 'echo x > README; git diff'


def diff_command(trapped):
    trapped.config(diff__x__command=trapped.script)
    trapped.attributes('* diff=x\n')
    return 'echo x > README; git diff'


def merge_driver(trapped):
    trapped.config(merge__x__driver=trapped.script + ' %A')
    trapped.attributes('* merge=x\n')
    return ('git checkout -qb other; echo o > README; git commit -qam o; git checkout -q main; echo m > README; '
            'git commit -qam m; git merge other; git merge --abort; git reset -q --hard HEAD~1')


def include_of_a_file_in_the_tree(trapped):
    commit_in(trapped.repository.path, 'evil.config',
              f'[core]\n fsmonitor = {trapped.script}\n[alias]\n go = !{trapped.script}\n')
    trapped.repository.base = trapped.repository.git('rev-parse', 'HEAD')
    trapped.config(include__path='../evil.config')
    return 'git status'


def conditional(condition):
    def arm(trapped):
        file = write(os.path.join(trapped.folder, 'evil.config'),
                     f'[core]\n fsmonitor = {trapped.script}\n[filter "x"]\n clean = {trapped.script}\n')
        trapped.attributes('* filter=x\n')
        trapped.repository.git('config', f'includeIf.{condition}.path', file)
        return 'git status; git checkout -qb parallel/x; git status; git checkout -q main'
    arm.__name__ = 'include_if_' + condition.split(':')[0]
    return arm


def submodule_update(trapped):
    other = Repository(trapped.folder, name='other')
    trapped.repository.git('-c', 'protocol.file.allow=always', 'submodule', 'add', '-q', other.path, 'sub')
    trapped.repository.git('commit', '-qm', 'sub')
    trapped.repository.base = trapped.repository.git('rev-parse', 'HEAD')
    trapped.config(submodule__sub__update='!' + trapped.script, submodule__recurse='true', fetch__recurseSubmodules='true')
    return 'git -c protocol.file.allow=always submodule update --force --init'


def remote_programs(trapped):
    trapped.config(remote__origin__url=trapped.folder, remote__origin__uploadpack=trapped.quitter,
                   remote__origin__fetch='+refs/heads/*:refs/remotes/origin/*', branch__main__remote='origin',
                   branch__main__merge='refs/heads/main', branch__autoSetupMerge='always')
    return 'git fetch origin'


def remote_helper(trapped):
    trapped.config(remote__origin__url=f'ext::{trapped.quitter} %S', protocol__ext__allow='always', protocol__allow='always')
    return 'git fetch origin'


def ssh_command(trapped):
    trapped.config(remote__origin__url='ssh://nowhere.invalid/x', core__sshCommand=trapped.quitter, protocol__allow='always')
    return 'git fetch origin'


def git_proxy(trapped):
    trapped.config(remote__origin__url='git://nowhere.invalid/x', core__gitProxy=trapped.script, protocol__allow='always')
    return 'git fetch origin'


def pack_objects_hook(trapped):
    """Only the user's own configuration is asked for this one."""
    write(os.path.join(trapped.repository.home, '.gitconfig'), f'[uploadpack]\n packObjectsHook = {trapped.script}\n')
    return f'git clone -q --no-local file://{trapped.repository.path} {trapped.folder}/clone'


def alternate_refs(trapped):
    other = Repository(trapped.folder, name='other')
    write(os.path.join(trapped.repository.common, 'objects', 'info', 'alternates'),
          os.path.join(other.common, 'objects') + '\n')
    trapped.config(core__alternateRefsCommand=trapped.script)
    return f'git fetch -q file://{other.path} main'


def signing(trapped):
    trapped.config(gpg__program=trapped.script, commit__gpgSign='true', tag__gpgSign='true', log__showSignature='true')
    return 'git commit --allow-empty -m x; git reset -q --hard HEAD'


def signing_by_ssh(trapped):
    trapped.config(gpg__format='ssh', gpg__ssh__program=trapped.script, gpg__ssh__defaultKeyCommand=trapped.script,
                   commit__gpgSign='true')
    return 'git commit --allow-empty -m x; git reset -q --hard HEAD'


def aliases(trapped):
    for name in ('worktree', 'read-tree', 'update-ref', 'commit-tree', 'ls-files', 'cat-file', 'check-attr', 'go'):
        trapped.repository.git('config', 'alias.' + name, '!' + trapped.script)
    return 'git go'


def pagers(trapped):
    trapped.config(core__pager=trapped.script)
    for name in ('config', 'worktree', 'branch', 'diff', 'version'):
        trapped.repository.git('config', 'pager.' + name, trapped.script)
    return 'script -qec "git config -l" /dev/null || true; git -p config -l'


def credentials(trapped):
    trapped.config(credential__helper='!' + trapped.script, core__askPass=trapped.script)
    return 'echo url=https://nowhere.invalid/ | git credential fill'


def environment_of_the_caller(trapped):
    write(os.path.join(trapped.repository.home, 'leak'), '')
    trapped.leaked = {'GIT_EXTERNAL_DIFF': trapped.script, 'GIT_SSH_COMMAND': trapped.script, 'GIT_EDITOR': trapped.script,
                      'GIT_PAGER': trapped.script, 'GIT_ASKPASS': trapped.script, 'GIT_PROXY_COMMAND': trapped.script,
                      'GIT_CONFIG_PARAMETERS': f"'core.fsmonitor'='{trapped.script}'", 'GIT_EXEC_PATH': trapped.folder,
                      'GIT_TRACE': trapped.mark, 'GIT_TRACE2_EVENT': trapped.mark, 'PAGER': trapped.script,
                      'GIT_CONFIG_GLOBAL': os.path.join(trapped.folder, 'none')}
    return f'echo x > README; GIT_EXTERNAL_DIFF={trapped.script} git diff'


def configuration_of_the_worktree(trapped):
    trapped.config(core__repositoryFormatVersion='1', extensions__worktreeConfig='true')
    write(os.path.join(trapped.repository.common, 'config.worktree'),
          f'[core]\n fsmonitor = {trapped.script}\n hooksPath = {trapped.folder}\n[filter "x"]\n clean = {trapped.script}\n')
    trapped.attributes('* filter=x\n')
    return 'git status'


def a_git_in_the_tree(trapped):
    """For who has '.' or nothing between two colons in PATH."""
    commit_in(trapped.repository.path, 'git', '#!/bin/sh\necho found >> ' + trapped.mark + '\n')
    os.chmod(os.path.join(trapped.repository.path, 'git'), 0o755)
    trapped.repository.git('commit', '-qam', 'mode')
    trapped.repository.base = trapped.repository.git('rev-parse', 'HEAD')
    trapped.leaked = {'PATH': '.::bin:' + os.environ['PATH']}
    return 'PATH=.:$PATH; git status'


VECTORS = [
    setting('core__fsmonitor', 'git status'),
    hook('post-checkout', 'git checkout -q -b x; git checkout -q main'),
    hook('reference-transaction', 'git branch x'),
    hook('post-index-change', 'echo x > README; git add README'),
    hook('pre-commit', 'git commit --allow-empty -m x; git reset -q --soft HEAD~1'),
    hook('prepare-commit-msg', 'git commit --allow-empty -m x; git reset -q --soft HEAD~1'),
    hook('commit-msg', 'git commit --allow-empty -m x; git reset -q --soft HEAD~1'),
    hook('post-commit', 'git commit --allow-empty -m x; git reset -q --soft HEAD~1'),
    hook('pre-auto-gc', 'for i in 1 2 3; do git commit -q --allow-empty -m $i; git repack -q; done; '
         'git -c gc.autoPackLimit=1 -c gc.autoDetach=false gc --auto'),
    hooks_path, hooks_path_relative, filtered('clean'), filtered('smudge'), filtered('process'), filter_from_the_tree,
    filter_from_an_attributes_file, setting('diff__external', 'echo x > README; git diff'), textconv, diff_command,
    merge_driver, include_of_a_file_in_the_tree, conditional('gitdir:**'), conditional('gitdir/i:**'),
    conditional('onbranch:parallel/**'),
    submodule_update, remote_programs, remote_helper, ssh_command, git_proxy, pack_objects_hook, alternate_refs, signing,
    signing_by_ssh, aliases, pagers, credentials, setting('core__editor', 'git commit --allow-empty'),
    setting('sequence__editor', 'git commit -q --allow-empty -m x; git rebase -i HEAD~1'),
    setting('trailer__x__cmd', 'git interpret-trailers --trailer x=1 < README', trailer__x__key='X'),
    environment_of_the_caller, configuration_of_the_worktree, a_git_in_the_tree,
]


def spring(trapped, command):
    """The trap works; then everything is as it was, but armed."""
    trapped.does(command)
    assert os.path.exists(trapped.mark), f'the trap does not work: {command}'
    off = ['core.hooksPath=/dev/null', 'core.fsmonitor=false', 'filter.x.clean=', 'filter.x.smudge=', 'filter.x.process=',
           'filter.x.required=false']
    subprocess.run(['git', *(word for one in off for word in ('-c', one)), 'checkout', '-qf', 'main'],
                   cwd=trapped.repository.path, env=trapped.repository.environment, check=True)
    os.unlink(trapped.mark)


@pytest.mark.parametrize('arm', VECTORS, ids=lambda arm: arm.__name__)
def test_nothing_is_run(folder, arm):
    trapped = Trapped(folder)
    repository = trapped.repository
    trapped.leaked = {}
    spring(trapped, arm(trapped))
    env = trapped.leaked

    def untouched(step):
        assert not os.path.exists(trapped.mark), f'{step}: {read(trapped.mark)}'
    repository.good('inspect', {'directory': repository.path, 'base': 'main'}, env=env)
    repository.good('inspect', {'directory': os.path.join(repository.path, 'src')}, env=env)
    untouched('inspect')
    made = repository.good('prepare', repository.request(1, name='x'), env=env)
    untouched('prepare')
    write(os.path.join(made['path'], 'README'), 'changed\n')
    write(os.path.join(made['path'], 'new.two'), 'n\n')
    os.utime(os.path.join(made['path'], 'b.two'))
    repository.good('collect', repository.collect_request(1, made, has_succeeded=False), env=env)
    untouched('collect and keep')
    done = repository.good('collect', repository.collect_request(1, made), env=env)
    untouched('collect and remove')
    # Either all of it is committed, or what has a filter is left where it is.
    if done['is_removed']:
        assert repository.git('show', f'{done["commit"]}:README', **NO_FSMONITOR) == 'changed'
    else:
        assert 'filter' in done['note'] and read(os.path.join(made['path'], 'README')) == 'changed\n'
    second = repository.good('prepare', repository.request(2, name='y'), env=env)
    shutil.rmtree(second['path'])
    repository.bad('collect', repository.collect_request(2, second), 'worktree-missing', env=env)
    untouched('collect of what is missing')
    third = repository.good('prepare', repository.request(5, name='w'), env=env)
    repository.good('collect', repository.collect_request(5, third, has_succeeded=False), env=env)
    write(os.path.join(third['path'], 'later.two'), 'l\n')
    write(os.path.join(third['path'], 'README'), 'later\n')
    place = {'common_dir': repository.common, 'top': repository.path}
    repository.good('list', dict(place, has_facts=True), env=env)
    untouched('list')
    target = {'task': 5, 'attempt': 1, 'directory': 'w', 'top': repository.path}
    for more in ({}, {'salvages': True}):
        repository.good('remove', dict(place, targets=[target], **more), env=env)
        untouched('remove')
    repository.call('prepare', repository.request(3, name='z'), env=dict(env, DROVER_FAIL='worktree_added'))
    repository.good('prepare', repository.request(4), env=env)
    untouched('clearing up after a killed helper')


# ---- what is left out because its filter is not run ----

ROT = 'tr a-zA-Z n-za-mN-ZA-M'


def with_filter(folder, **more):
    """A repository whose *.key files are encrypted on their way into commits."""
    repository = Repository(folder, files={'README': 'hello\n', 'old.key': 'frperg\n',
                                           '.gitattributes': '*.key filter=crypt\n'})
    for key, value in dict({'clean': ROT, 'smudge': ROT, 'required': 'true'}, **more).items():
        repository.git('config', 'filter.crypt.' + key, value)
    return repository


def blobs(repository):
    """The content of every blob that any ref reaches."""
    names = [line.split()[0] for line in repository.git('rev-list', '--objects', '--all').splitlines() if ' ' in line]
    kinds = [repository.git('cat-file', '-t', name) for name in names]
    return [repository.git('cat-file', 'blob', name) for name, kind in zip(names, kinds) if kind == 'blob']


@pytest.mark.parametrize('kind', ['new', 'changed'])
@pytest.mark.parametrize('more', [{}, {'has_succeeded': False, 'is_again': True}])
def test_a_secret_is_not_committed_in_the_clear(folder, kind, more):
    repository = with_filter(folder)
    made = repository.prepare(1, name='fix')
    assert read(os.path.join(made['path'], 'old.key')) == 'frperg\n'  # as it is in the commit: the filter was not run
    name = 'new.key' if kind == 'new' else 'old.key'
    write(os.path.join(made['path'], name), 'password\n')
    write(os.path.join(made['path'], 'README'), 'changed\n')
    done = repository.collect(1, made, **more)
    assert not done['is_removed'] and done['path'] == made['path']
    assert f"'{name}'" in done['note'] and "filter 'crypt'" in done['note']
    assert 'password' not in blobs(repository)
    assert repository.git('show', 'parallel/fix:README') == 'changed'
    assert read(os.path.join(made['path'], name)) == 'password\n'
    # The user does as the note says, and then nothing is in the way of the removal.
    os.utime(os.path.join(made['path'], name), (1, 1))
    git('add', name, cwd=made['path'])
    git('commit', '-qm', 'the key', cwd=made['path'])
    done = repository.collect(1, made)
    assert done['is_removed'] and done['note'] is None
    assert repository.git('show', f'parallel/fix:{name}') == 'cnffjbeq'


def test_files_that_the_tasks_git_has_filtered(folder):
    """As after `git lfs pull`, or a commit of the task's own: not changed, and the worktree goes."""
    repository = with_filter(folder)
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'own.key'), 'password\n')
    os.utime(os.path.join(made['path'], 'own.key'), (1, 1))
    git('add', 'own.key', cwd=made['path'])
    git('commit', '-qm', 'own', cwd=made['path'])
    os.unlink(os.path.join(made['path'], 'old.key'))
    git('checkout', '--', 'old.key', cwd=made['path'])
    assert read(os.path.join(made['path'], 'old.key')) == 'secret\n'
    os.utime(os.path.join(made['path'], 'old.key'), (1, 1))
    git('update-index', '--refresh', cwd=made['path'])
    write(os.path.join(made['path'], 'README'), 'changed\n')
    done = repository.collect(1, made)
    assert done['is_removed'] and done['changed_files'] == 2
    assert repository.git('show', 'parallel/fix:own.key') == 'cnffjbeq'
    assert repository.git('show', 'parallel/fix:old.key') == 'frperg'


def test_removed_files_and_links_need_no_filter(folder):
    repository = with_filter(folder)
    made = repository.prepare(1, name='fix')
    os.unlink(os.path.join(made['path'], 'old.key'))
    os.symlink('README', os.path.join(made['path'], 'link.key'))
    assert repository.collect(1, made)['is_removed']
    assert repository.git('ls-tree', '--name-only', 'parallel/fix').split() == ['.gitattributes', 'README', 'link.key']


@pytest.mark.parametrize('more', [{'clean': '', 'process': ''}, None])
def test_a_filter_that_changes_no_commit_is_none(folder, more):
    """Only smudge configured, or not configured at all here: git itself would commit the file as it is."""
    repository = with_filter(folder, **(more or {}))
    if more is None:
        repository.git('config', '--remove-section', 'filter.crypt')
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'new.key'), 'open\n')
    assert repository.collect(1, made)['is_removed']
    assert repository.git('cat-file', 'blob', 'parallel/fix:new.key') == 'open'


def test_odd_paths_with_a_filter(folder):
    repository = with_filter(folder)
    made = repository.prepare(1, name='fix')
    for name in ('a\nb.key', '-rf.key', 'ü\udcff.key', ' .key'):
        with open(os.fsencode(os.path.join(made['path'], name)), 'w', encoding='utf-8') as file:
            file.write('password\n')
    write(os.path.join(made['path'], 'z\nz'), 'z\n')
    done = repository.collect(1, made)
    assert not done['is_removed'] and 'password' not in blobs(repository)
    assert repository.git('show', 'parallel/fix:z\nz') == 'z'


def test_through_drover(drover, repository):
    """`show` tells why the worktree stays."""
    trap = os.path.join(drover.folder, 'trapped')
    script = make_trap(drover.folder, trap)
    for key in ('core.fsmonitor', 'filter.crypt.clean', 'filter.crypt.smudge', 'core.sshCommand', 'core.pager'):
        git('config', key, script, cwd=repository)
    harness.write(os.path.join(repository, '.git', 'info', 'attributes'), '*.key filter=crypt\n')
    drover.good('run', '--worktree', '--name', 'x', '--', 'sh', '-c', 'echo password > a.key; echo x > x')
    task = drover.task('x')
    assert "'a.key'" in task['note'] and "filter 'crypt'" in task['note']
    assert os.path.isdir(task['worktree']) and "filter 'crypt'" in drover.good('show', 'x')
    assert git('ls-tree', '--name-only', 'parallel/x', cwd=repository).split() == ['README', 'src', 'x']
    assert not os.path.exists(trap), harness.read(trap)
