"""RESULTS.md from the JSON files of the benchmarks."""
import glob
import json
import os
import re
import textwrap

HEAD = """# Results of make bench

Peers and drover run in turn on one machine in one run; values are medians. Compare the ratios: absolute numbers mean nothing
on another machine or day. `make bench ONLY=P5` measures one again. How each is measured stands at the top of its program in
`bench/`.

"""


def order(data):
    number = re.search(r'\d+', data['id'])
    return (0, int(number.group(0))) if number else (1, 0)


def table(columns, rows):
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
    return lines + ['| ' + ' | '.join(row) + ' |' for row in rows]


def section(data, plots):
    lines = [f'## {data["id"]} {data["title"]}', '',
             f'{data["date"]}, drover {data["version"]}. {data["machine"]}.']
    if data['load'] > 3:
        lines += ['', f'The machine was not idle: load {data["load"]} at the end.']
    for paragraph in data['text']:
        lines += ['', *textwrap.wrap(paragraph, 120)]
    for part in data['tables']:
        lines += [''] + ([part['title'], ''] if part['title'] else []) + table(part['columns'], part['rows'])
    for name in data['plots']:
        lines += ['', f'![{data["title"]}]({plots}{name})']
    if data['missing']:
        lines += ['', *textwrap.wrap(f'Not installed, so not measured: {", ".join(data["missing"])}.', 120)]
    return lines + ['']


def write(folder, path):
    """Everything that lies in `folder`, so that measuring one again leaves the others."""
    results = []
    for name in glob.glob(os.path.join(folder, '*.json')):
        with open(name, encoding='utf-8') as file:
            results.append(json.load(file))
    results.sort(key=order)
    plots = os.path.relpath(folder, os.path.dirname(path)) + '/'
    plots = '' if plots == './' else plots
    rows = [[data['id'], row['what'], row['text'], row['target'], 'met' if row['met'] else '**missed**', row['peers']]
            for data in results for row in data['targets']]
    lines = table(['#', 'what', 'measured', 'target', 'verdict', 'beside'], rows) + ['']
    for data in results:
        lines += section(data, plots)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(HEAD + '\n'.join(lines))
