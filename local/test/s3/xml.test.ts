import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, test } from 'vitest';
import { parseXml, renderXml } from '../../s3/xml.ts';

describe('a request document', () => {
  test('is parsed with declaration, comments, namespaces, empty elements and references', () => {
    const node = parseXml(
      '\ufeff<?xml version="1.0"?>\n<!-- all --><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/" a=\'1\'>\n <Object><Key>a&amp;b&#x41;&#66;&lt;</Key></Object><Object/><Quiet >true</Quiet></Delete>\n',
      'Delete',
    );
    const [first, second] = node.all('Object');
    assert.equal(first?.textOf('Key'), 'a&bAB<');
    assert.deepEqual([second?.children, node.textOf('Quiet'), node.textOf('None')], [[], 'true', undefined]);
  });

  test.each([
    '',
    'text',
    '<Other/>',
    '<Delete>',
    '<Delete></Object>',
    '</Delete>',
    '<Delete/><Delete/>',
    '<Delete/>text',
    '<Delete a=1/>',
    '<Delete>&unknown;</Delete>',
    '<Delete>&amp</Delete>',
    '<Delete>&#x110000;</Delete>',
    '<!DOCTYPE x [<!ENTITY a "aaaa">]><Delete>&a;</Delete>',
    '<Delete><![CDATA[x]]></Delete>',
    `<Delete>${'<a>'.repeat(100_000)}`,
    '<Delete',
  ])('is refused when it is malformed: %.40s', (text) => {
    assert.throws(() => parseXml(text, 'Delete'), { code: 'MalformedXML' });
  });

  test('is refused with an unknown element, or with one twice', () => {
    const node = parseXml('<A><B/><B/></A>', 'A');
    assert.throws(() => node.allow('C'), { code: 'NotImplemented' });
    assert.throws(() => node.textOf('B'), { code: 'MalformedXML' });
  });
});

test('text survives rendering and parsing unchanged', () => {
  const text = fc.string({ unit: 'binary' }).filter((s) => !/[\ud800-\udfff]/.test(s));
  fc.assert(
    fc.property(fc.array(text, { maxLength: 3 }), (texts) => {
      const document = renderXml('List', { Item: texts });
      assert.deepEqual(parseXml(document, 'List').all('Item').map((item) => item.text), texts); // prettier-ignore
    }),
  );
});

test('a document leaves out what is undefined and keeps the order of its sections', () => {
  const document = renderXml('Error', { Code: 'X', None: undefined }, { B: { C: 1 } }, { A: true }, { B: [] });
  assert.equal(
    document,
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>X</Code><B><C>1</C></B><A>true</A></Error>',
  );
});
