"""repositories: a git repository in a folder, and calls of drover-worktree for it, as the daemon would make them."""
import json
import os
import subprocess

import pytest

import harness
from harness import git, read, write

HELPER_LIMIT_S = 60


def find_helper():
    build = harness.find_build()
    for place in ('src',):
        path = os.path.join(build, place, 'drover-worktree')
        if os.path.exists(path):
            return path
    pytest.exit(f'there is no drover-worktree in {build}', returncode=3)


class Repository:
    """A repository with one commit on main, and calls of the helper for it."""

    def __init__(self, folder, name='repo', files=None, init=()):
        self.folder = folder
        self.path = os.path.join(folder, name)
        self.home = os.path.join(folder, 'home')
        os.makedirs(self.home, exist_ok=True)
        os.makedirs(self.path)
        if init:
            git('init', '-q', '-b', 'main', *init, cwd=self.path)
        harness.make_repository(self.path, files)
        self.common = os.path.join(self.path, '.git')
        self.base = self.git('rev-parse', 'HEAD')
        self.environment = {'PATH': os.environ['PATH'], 'HOME': self.home, 'GIT_CEILING_DIRECTORIES': folder,
                            'ASAN_OPTIONS': 'detect_leaks=1:exitcode=99', 'UBSAN_OPTIONS': 'halt_on_error=1:exitcode=99'}

    def git(self, *arguments, cwd=None, **more):
        return git(*arguments, cwd=cwd or self.path, **more)

    def call_git(self, *arguments, cwd=None):
        """git with every filter of the configuration emptied: the finished process."""
        asked = subprocess.run(['git', 'config', '--name-only', '--get-regexp', '^filter[.]'], cwd=self.path, text=True,
                               capture_output=True, check=False, env=self.environment).stdout.split('\n')
        off = [word for key in asked if key for word in ('-c', f'{key}=' + ('false' if key.endswith('required') else ''))]
        return subprocess.run(['git', *off, *arguments], cwd=cwd or self.path, text=True, capture_output=True, check=False,
                              env=self.environment)

    def call(self, verb, request, before=(), env=None):
        """The finished process and what it printed."""
        done = subprocess.run([*before, find_helper(), verb], input=json.dumps(request), text=True, timeout=HELPER_LIMIT_S,
                              capture_output=True, env=dict(self.environment, **(env or {})), cwd='/', check=False)
        return done, json.loads(done.stdout) if done.stdout else None

    def request(self, task, attempt=1, **more):
        return {'task': task, 'attempt': attempt, 'top': self.path, 'common_dir': self.common, 'commit': self.base, **more}

    def good(self, verb, request, **more):
        done, output = self.call(verb, request, **more)
        assert done.returncode == 0 and 'error' not in output, (done, output)
        assert done.stderr == ''
        return output

    def bad(self, verb, request, code, says='', **more):
        done, output = self.call(verb, request, **more)
        assert done.returncode == 1, (done, output)
        assert output['error']['code'] == code and says in output['error']['message'], output
        return output

    def prepare(self, task, attempt=1, **more):
        return self.good('prepare', self.request(task, attempt, **more))

    def collect_request(self, task, made, attempt=1, **more):
        return self.request(task, attempt, path=made['path'], branch=made['branch'],
                            **{'message': 'task: result', 'has_succeeded': True, **more})

    def collect(self, task, made, attempt=1, **more):
        return self.good('collect', self.collect_request(task, made, attempt, **more))

    def refs(self, under):
        return self.git('for-each-ref', '--format=%(refname)', under).split()

    def branches(self):
        return [ref[len('refs/heads/'):] for ref in self.refs('refs/heads/parallel')]

    def worktrees(self):
        """Names of the worktrees that stand."""
        root = os.path.join(self.path, '.parallel-worktrees')
        return sorted(name for name in os.listdir(root) if name not in ('.gitignore', '.trash'))

    def admins(self):
        folder = os.path.join(self.common, 'worktrees')
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def residue(self):
        """What nothing may leave: lock files, intents, trash."""
        found = []
        for folder, _, names in os.walk(self.common):
            found += [os.path.join(folder, name) for name in names if name.endswith(('.lock', '.new', '.corrupt'))]
        for folder in (os.path.join(self.common, 'drover', 'intents'), os.path.join(self.common, 'drover', 'trash'),
                       os.path.join(self.path, '.parallel-worktrees', '.trash')):
            found += [os.path.join(folder, name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
        return found

    def fingerprint(self):
        """What no call may change: the main worktree, its branch, index, configuration, hooks, and its status."""
        found = {'HEAD': read(os.path.join(self.common, 'HEAD')), 'main': self.git('rev-parse', 'main')}
        for name in ('index', 'config'):
            with open(os.path.join(self.common, name), 'rb') as file:
                found[name] = file.read()
        for folder, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if name not in ('.git', '.parallel-worktrees')]
            for name in names:
                with open(os.path.join(folder, name), 'rb') as file:
                    found[os.path.join(folder, name)] = file.read()
        found['hooks'] = sorted(os.listdir(os.path.join(self.common, 'hooks')))
        return found

    def assert_sound(self, status=''):
        assert self.residue() == []
        assert self.git('status', '--porcelain', GIT_OPTIONAL_LOCKS='0') == status
        self.git('fsck', '--connectivity-only')


def commit_in(path, name, text='x\n', message='its own'):
    write(os.path.join(path, name), text)
    git('add', name, cwd=path)
    git('commit', '-qm', message, cwd=path)
    return git('rev-parse', 'HEAD', cwd=path)


def make_trap(folder, trap):
    """A program that leaves a mark."""
    return write(os.path.join(folder, 'evil.sh'), f'#!/bin/sh\necho "$0 $*" >> "{trap}"\ncat 2>/dev/null\n', 0o755)


def arm(repository, trap, name='evil'):
    """Everything git could be made to run, each leaving a mark: FACTS 1.9."""
    script = make_trap(repository.folder, trap)
    hooks = os.path.join(repository.folder, 'hooks')
    os.makedirs(hooks, exist_ok=True)
    for hook in ('post-checkout', 'reference-transaction', 'pre-commit', 'commit-msg', 'post-commit', 'post-index-change',
                 'prepare-commit-msg', 'post-rewrite', 'fsmonitor-watchman', 'pre-auto-gc'):
        for folder in (hooks, os.path.join(repository.common, 'hooks')):
            path = os.path.join(folder, hook)
            if not os.path.exists(path):
                os.symlink(script, path)
    settings = {'core.fsmonitor': script, 'core.hooksPath': hooks, 'core.pager': script, 'core.editor': script,
                'core.sshCommand': script, 'core.askPass': script, 'core.gitProxy': script, 'diff.external': script,
                'credential.helper': '!' + script, 'gpg.program': script, 'commit.gpgSign': 'true', 'gc.auto': '1',
                f'filter.{name}.clean': script, f'filter.{name}.smudge': script, f'filter.{name}.required': 'true',
                'filter.two.process': script, f'diff.{name}.textconv': script, f'diff.{name}.command': script,
                f'merge.{name}.driver': script, 'uploadpack.packObjectsHook': script, 'protocol.ext.allow': 'always',
                'submodule.recurse': 'true', 'alias.worktree': '!' + script, 'alias.read-tree': '!' + script}
    for key, value in settings.items():
        repository.git('config', key, value, GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0='core.fsmonitor',
                       GIT_CONFIG_VALUE_0='false')
    write(os.path.join(repository.common, 'info', 'attributes'),
          f'* filter={name} diff={name} merge={name}\n*.two filter=two\n')
