"""docs/protocol.schema.json for tests: what a field may be, and an example of it."""
import json
import os

import harness

with open(os.path.join(harness.ROOT, 'docs', 'protocol.schema.json'), encoding='utf-8') as schema_file:
    SCHEMA = json.load(schema_file)

OF_EACH_TYPE = {'null': None, 'boolean': True, 'integer': 7, 'number': 7.5, 'string': 'seven', 'array': [7],
                'object': {'a': 7}}


def resolve(node):
    return SCHEMA['$defs'][node['$ref'].rsplit('/', 1)[1]] if '$ref' in node else node


def types_of(field):
    """Names of the JSON types that a field may have."""
    field = resolve(field)
    if 'anyOf' in field:
        return {name for choice in field['anyOf'] for name in types_of(choice)}
    named = field.get('type')
    return {named} if isinstance(named, str) else set(named or OF_EACH_TYPE)


def example(field):
    """Something of the right type."""
    kind = sorted(types_of(field) - {'null'})[0]
    if kind == 'object':
        target = resolve(next((choice for choice in field.get('anyOf', [field]) if '$ref' in choice), field))
        return {name: example(target['properties'][name]) for name in target.get('required', [])}
    return [] if kind == 'array' else '/nowhere' if kind == 'string' else OF_EACH_TYPE[kind]


def params_of(method):
    return resolve(SCHEMA['methods'][method]['params'])


def is_of(value, types):
    """JSON's idea of types: an integer is a number."""
    for name, sample in OF_EACH_TYPE.items():
        if type(value) is type(sample) and (name in types or (name == 'integer' and 'number' in types)):
            return True
    return False


def result_of(method):
    """A result with what the definition requires, and nothing in its lists."""
    definition = resolve(SCHEMA['methods'][method]['result'])
    return {name: example(definition['properties'][name]) for name in definition.get('required', [])}
