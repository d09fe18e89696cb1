"""Tab: real shells complete commands, options, values, tasks, batches, files. A shell that is missing is skipped by name."""
import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

import harness

SHELLS = ('bash', 'zsh', 'fish')


class Shell:
    """A shell in which the completion is loaded as `drover completion` says."""

    def __init__(self, drover, name):
        if not shutil.which(name):
            pytest.skip(f'{name} is not installed')
        self.drover, self.name = drover, name
        self.environment = dict(drover.environment, TERM='dumb', PS1='$ ', ZDOTDIR=drover.folder, LANG='C.UTF-8')
        self.environment['PATH'] = f'{drover.programs}:{self.environment["PATH"]}'
        self.folder = os.path.join(drover.folder, 'files')
        os.makedirs(os.path.join(self.folder, 'folder'), exist_ok=True)
        harness.write(os.path.join(self.folder, 'batch.yaml'), '')

    def run(self, script):
        command = {'bash': ['bash', '--norc', '--noprofile', '-c'], 'zsh': ['zsh', '-f', '-c'],
                   'fish': ['fish', '--no-config', '-c']}[self.name]
        done = subprocess.run([*command, script], env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=False)
        assert done.returncode == 0, done
        return done.stdout.decode().splitlines()

    def complete(self, *lines):
        """For each line the set of candidates for its last word; all in one shell, since starting it takes longest."""
        found = {'bash': self.complete_bash, 'zsh': self.complete_zsh, 'fish': self.complete_fish}[self.name](lines)
        groups = [[]]
        for word in found:
            if word == '@end':
                groups.append([])
            elif word:
                groups[-1].append(word.split('\t')[0])
        assert len(groups) == len(lines) + 1 and not groups.pop(), found
        return [set(group) for group in groups]

    def complete_fish(self, lines):
        return self.run('drover completion fish | source\n' +
                        '\n'.join(f"complete -C '{line}'; echo @end" for line in lines))

    def complete_bash(self, lines):
        """Splits at '=' as readline does."""
        script = 'source <(drover completion bash)\n'
        for line in lines:
            words = [part for word in line.split(' ') for part in split_at_equals(word)]
            script += f'COMP_WORDS=({" ".join(map(quote, words))}); COMP_CWORD={len(words) - 1}; _drover\n' \
                'printf "%s\\n" "${COMPREPLY[@]}" @end\n'
        return self.run(script)

    def complete_zsh(self, lines):
        """zsh completes on a terminal only. What its widget is given is noted, then the line is taken away."""
        setup = '\n'.join([
            'autoload -U compinit; compinit -u -D; source <(drover completion zsh); setopt no_beep',
            'zle -C listed list-choices listing',
            'listing() { compadd() { local -a found; builtin compadd -O found "$@"; print -rl -- $found >> $OUTPUT',
            'builtin compadd "$@" }; _main_complete; unfunction compadd; print @end >> $OUTPUT; }',
            'bindkey "^T" listed; print ready > $OUTPUT', ''])
        output = os.path.join(self.folder, '.listed')
        harness.write(output, '')
        harness.write(os.path.join(self.drover.folder, '.zshrc'), setup)
        on_terminal(['zsh', '-i'], dict(self.environment, OUTPUT=output), self.folder,
                    [(lambda: harness.read(output) == 'ready\n', '\x15' + lines[0] + '\x14')] +
                    [(lambda count=count: harness.read(output).count('@end\n') == count, '\x15' + line + '\x14')
                     for count, line in enumerate(lines[1:], 1)],
                    lambda _: harness.read(output).count('@end\n') == len(lines))
        return harness.read(output).splitlines()[1:]


def split_at_equals(word):
    name, equals, value = word.partition('=')
    return [name, equals, value] if equals and value else [name, equals] if equals else [word]


def quote(word):
    return f"'{word}'"


def on_terminal(command, environment, folder, inputs, is_done, limit_s=30):
    """Types into a program on a terminal: each (condition, text) when its condition holds, until is_done(what it showed)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    shown = b''
    deadline = time.monotonic() + limit_s
    try:
        while not is_done(shown):
            if time.monotonic() > deadline:
                raise harness.Timeout(f'the shell showed {shown!r}')
            if inputs and inputs[0][0]():
                os.write(fd, inputs.pop(0)[1].encode())
            if select.select([fd], [], [], 0.02)[0]:
                shown += os.read(fd, 65536)
    finally:
        os.close(fd)
        harness.signal_process(pid, 9)
        os.waitpid(pid, 0)
    return shown


@pytest.fixture(params=SHELLS)
def shell(request, drover):
    return Shell(drover, request.param)


def test_commands_and_options(shell):
    """Without a daemon, and starting none."""
    commands, cancel, verbs, retries, worktree = shell.complete(
        'drover ', 'drover ca', 'drover daemon ', 'drover run --re', 'drover run --timeout 5s --work')
    assert {'run', 'add', 'ls', 'cancel', 'events', 'daemon', 'completion', 'pause'} <= commands
    assert '__complete' not in commands and cancel == {'cancel'} and verbs == {'start', 'stop', 'restart', 'status'}
    assert {'--retries', '--retry-delay'} <= retries and all(word.startswith('--re') for word in retries)
    assert worktree == {'--worktree', '--worktree='}
    assert shell.drover.count_running('drover-daemon') == 0


def test_values_of_options(shell):
    priority, attached, strategy, state, states, shells = shell.complete(
        'drover run --priority ', 'drover run --priority=', 'drover run --worktree=ch', 'drover ls --state su',
        'drover ls --state=failed,lo', 'drover completion ')
    assert priority == {'P0', 'P1', 'P2'}
    keeps = (lambda text: '') if shell.name == 'bash' else lambda text: text  # bash completes what is behind the '='
    assert attached == {keeps('--priority=') + word for word in priority}
    assert strategy == {keeps('--worktree=') + 'checkout'}
    assert state == {'succeeded', 'suspended'} and states == {keeps('--state=') + 'failed,lost'} and shells == set(SHELLS)


def test_files_and_programs(shell):
    batch, folder, no_file, program, argument, value = shell.complete(
        'drover run -f bat', 'drover run --cwd fo', 'drover run --cwd ba', 'drover run -j 2 tru', 'drover run cat bat',
        'drover run -k cat ::: bat')
    assert 'batch.yaml' in batch and {'folder', 'folder/'} & folder and 'batch.yaml' not in no_file
    assert 'true' in program and 'batch.yaml' in argument and 'batch.yaml' in value


def test_tasks_and_batches(shell):
    drover = shell.drover
    held = drover.add('--hold', '--name', 'alpha-one', '--batch', 'letters', 'true')[0]
    drover.run('run', '--name', 'alpha-two', '--batch', 'more', 'true')
    unnamed = drover.add('--hold', 'true')[0]
    show, cancel, retry, of_batch, why, number, batch, after = shell.complete(
        'drover show alpha-', 'drover cancel alpha-', 'drover retry alpha-', 'drover show letters/', 'drover why ',
        f'drover why {held}', 'drover ls --batch l', 'drover run --after alpha-one,alpha-t')
    assert show == {'alpha-one', 'alpha-two'} and cancel == {'alpha-one'} and retry == {'alpha-two'}  # what can be
    assert of_batch == {'letters/alpha-one'} and str(unnamed) in why and str(held) in number and batch == {'letters'}
    assert after == {'alpha-one,alpha-two'}


def test_worktrees(shell, repository):
    """What `worktree rm` can remove: not the tasks that never had a worktree, nor those of which it is gone."""
    drover = shell.drover
    drover.run('run', '--worktree', '--name', 'left', 'false', cwd=repository)
    drover.good('run', '--worktree', '--name', 'gone', 'true', cwd=repository)
    drover.run('run', '--name', 'plain', 'false')
    place = drover.task('left')['worktree']
    verbs, database, words, by_path = shell.complete(
        'drover worktree ', 'drover db ', 'drover worktree rm ', f'drover worktree rm {place[:-1]}')
    assert verbs == {'ls', 'rm', 'prune'} and database == {'check', 'backup', 'restore'}
    assert words == {'left'} and place in by_path


def test_bash_on_a_terminal(drover):
    """Typing, Tab, and what readline makes of it."""
    shell = Shell(drover, 'bash')
    drover.add('--hold', '--name', 'only-one', 'true')
    assert shell.run('source <(drover completion bash); complete -p drover') == ['complete -F _drover drover']
    for typed, wanted in (('drover canc\t', b'drover cancel '), ('drover show onl\t', b'drover show only-one '),
                          ('drover run --prior\tP\t\t', b'P0  P1  P2'), ('drover run --worktree=ch\t', b'=checkout ')):
        on_terminal(['bash', '--norc', '--noprofile', '-i'], shell.environment, shell.folder,
                    [(lambda: True, 'source <(drover completion bash)\n'), (lambda: True, typed)],
                    lambda shown, wanted=wanted: wanted in shown)


def test_no_waiting_for_a_daemon_that_does_not_answer(drover):
    """Tab must not hang: a stopped daemon costs a second, then nothing is offered."""
    drover.add('--hold', '--name', 'x', 'true')
    pid = drover.daemon_pid()
    harness.signal_process(pid, 19)
    try:
        begin = time.monotonic()
        done = drover.run('__complete', 'fish', 'drover', 'show', '')
        assert (done.returncode, done.stdout, done.stderr) == (0, '', '') and time.monotonic() - begin < 5
    finally:
        harness.signal_process(pid, 18)
    assert drover.good('__complete', 'fish', 'drover', 'show', '').startswith('x\t')


def test_descriptions_are_harmless(drover):
    drover.add('--hold', '--name', 'x', 'echo', '{}', ':::', 'a\x1b]0;t\x07\tb\nc')
    assert drover.good('__complete', 'zsh', 'drover', 'show', '').count('\n') == 1
    assert '\x1b' not in drover.good('__complete', 'zsh', 'drover', 'show', '')


def test_an_unknown_shell(drover):
    drover.bad(2, 'completion', 'tcsh', says='bash, zsh or fish')
    drover.bad(2, 'completion', says='bash, zsh or fish')


def test_installed_where_the_shells_look(drover):
    """`make install` and `make uninstall` in a directory of their own."""
    root = os.path.join(drover.folder, 'root')
    subprocess.run(['meson', 'install', '-C', drover.build, '--destdir', root, '--no-rebuild', '--quiet'], check=True,
                   timeout=60, stdout=subprocess.DEVNULL)
    found = {os.path.join(place, name) for place, _, names in os.walk(root) for name in names}
    for end, shell in (('/share/bash-completion/completions/drover', 'bash'), ('/share/zsh/site-functions/_drover', 'zsh'),
                       ('/share/fish/vendor_completions.d/drover.fish', 'fish')):
        path = next(path for path in found if path.endswith(end))
        assert harness.read(path) == drover.good('completion', shell)
    subprocess.run([sys.executable, os.path.join(harness.ROOT, 'tools', 'uninstall'), drover.build, root], check=True,
                   timeout=60, stdout=subprocess.DEVNULL)
    assert not [path for path in found if os.path.exists(path)]
