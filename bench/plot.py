"""Plots as SVG, without any library: horizontal bars, and lines over a logarithmic axis."""
import html
import math

WIDTH, LEFT, RIGHT = 760, 230, 110
COLOURS = ['#1b6ca8', '#c4622d', '#4a8f3c', '#7b4ea3', '#8a8a8a']
STYLE = 'text{font:13px sans-serif;fill:#222}.t{font-weight:bold}.n{fill:#666}.g{stroke:#ddd}.a{stroke:#444;fill:none}'


def document(height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">\n'
            f'<style>{STYLE}</style>\n<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + '\n'.join(parts) +
            '\n</svg>\n')


def text(x, y, words, kind='', anchor='start'):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{html.escape(str(words))}</text>'


def bars(title, rows, form='{:,.0f}', bound=None):
    """rows: (label, median, lowest, highest). The first is drover. `bound`: (value, words), a line across."""
    top = max([row[3] for row in rows] + ([bound[0]] if bound else [])) or 1
    scale = (WIDTH - LEFT - RIGHT) / top
    height = 50 + 26 * len(rows) + (22 if bound else 8)
    parts = [text(12, 24, title, 't')]
    for index, (label, value, low, high) in enumerate(rows):
        y = 42 + 26 * index
        middle = y + 9
        parts += [text(LEFT - 8, y + 14, label, anchor='end'),
                  f'<rect x="{LEFT}" y="{y}" width="{max(1, value * scale):.1f}" height="18" '
                  f'fill="{COLOURS[0 if index == 0 else 4]}"/>',
                  f'<path class="a" d="M{LEFT + low * scale:.1f} {middle}H{LEFT + high * scale:.1f}"/>',
                  text(LEFT + high * scale + 6, y + 14, form.format(value), 'n')]
    if bound:
        x = LEFT + bound[0] * scale
        bottom = 42 + 26 * len(rows)
        parts += [f'<path class="a" stroke-dasharray="4 3" d="M{x:.1f} 36V{bottom}"/>',
                  text(x, bottom + 14, bound[1], 'n', 'middle')]
    return document(height, parts)


def ticks(low, high):
    return [10 ** power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def lines(title, series, x_label, y_label, bound=None):
    """series: {label: [(x, y)]}, x logarithmic, y from 0. `bound`: (y, words)."""
    points = [point for line in series.values() for point in line]
    xs = ticks(min(x for x, _ in points), max(x for x, _ in points))
    top = 1.1 * max([y for _, y in points] + ([bound[0]] if bound else []))
    left, right, upper, lower = 70, 30, 44, 320

    def across(x):
        share = (math.log10(x) - math.log10(xs[0])) / max(1e-9, math.log10(xs[-1]) - math.log10(xs[0]))
        return left + share * (WIDTH - left - right)

    def up(y):
        return lower - y / top * (lower - upper)

    parts = [text(12, 24, title, 't'), f'<path class="a" d="M{left} {upper}V{lower}H{WIDTH - right}"/>',
             text((left + WIDTH - right) / 2, lower + 38, x_label, 'n', 'middle'), text(12, upper - 6, y_label, 'n')]
    for x in xs:
        parts += [f'<path class="g" d="M{across(x):.1f} {upper}V{lower}"/>',
                  text(across(x), lower + 18, f'{x:,}', 'n', 'middle')]
    for index in range(5):
        y = top / 1.1 * index / 4
        parts += [f'<path class="g" d="M{left} {up(y):.1f}H{WIDTH - right}"/>',
                  text(left - 6, up(y) + 4, f'{y:.2g}', 'n', 'end')]
    if bound:
        parts += [f'<path class="a" stroke-dasharray="4 3" d="M{left} {up(bound[0]):.1f}H{WIDTH - right}"/>',
                  text(WIDTH - right, up(bound[0]) - 5, bound[1], 'n', 'end')]
    for index, (label, line) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = ' '.join(f'{"M" if i == 0 else "L"}{across(x):.1f} {up(y):.1f}' for i, (x, y) in enumerate(line))
        parts += [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        parts += [f'<rect x="{left + 12}" y="{lower + 52 + 18 * index}" width="12" height="12" fill="{colour}"/>',
                  text(left + 30, lower + 63 + 18 * index, label)]
    return document(lower + 64 + 18 * len(series), parts)
