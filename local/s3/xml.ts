import { S3Error } from './error.ts';

/** What an element holds: text, elements by name, or the same element several times. `undefined` is left out. */
type XmlContent = string | number | boolean | undefined | XmlElements | readonly XmlContent[];
export interface XmlElements {
  readonly [name: string]: XmlContent;
}

const NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/';

/** A whole document. Errors have no namespace, everything else has S3's. */
export function renderXml(root: string, ...content: readonly XmlElements[]): string {
  const attributes = root === 'Error' ? '' : ` xmlns="${NAMESPACE}"`;
  const inner = content.map(renderElements).join('');
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${root}${attributes}>${inner}</${root}>`;
}

function renderElements(elements: XmlElements): string {
  return Object.entries(elements)
    .map(([name, content]) => renderElement(name, content))
    .join('');
}

function renderElement(name: string, content: XmlContent): string {
  if (content === undefined) return '';
  if (isList(content)) return content.map((item) => renderElement(name, item)).join('');
  const inner = typeof content === 'object' ? renderElements(content) : escapeXml(String(content));
  return `<${name}>${inner}</${name}>`;
}

function isList(content: XmlContent): content is readonly XmlContent[] {
  return Array.isArray(content);
}

function escapeXml(text: string): string {
  // oxlint-disable-next-line no-control-regex -- keys may hold control characters, and S3 writes them as references
  return text.replace(/[&<>"\u0000-\u0008\u000b-\u001f]/g, (character) =>
    character === '&'
      ? '&amp;'
      : character === '<'
        ? '&lt;'
        : character === '>'
          ? '&gt;'
          : character === '"'
            ? '&quot;'
            : `&#x${character.charCodeAt(0).toString(16)};`,
  );
}

/** An element of a request. Attributes are read over: no request that is served here has one with a meaning. */
export class XmlNode {
  readonly name: string;
  readonly children: XmlNode[] = [];
  text = '';

  constructor(name: string) {
    this.name = name;
  }

  all(name: string): readonly XmlNode[] {
    return this.children.filter((child) => child.name === name);
  }

  one(name: string): XmlNode | undefined {
    const found = this.all(name);
    if (found.length > 1) throw new S3Error('MalformedXML');
    return found[0];
  }

  /** The text of the one child of that name, `undefined` without one. */
  textOf(name: string): string | undefined {
    return this.one(name)?.text;
  }

  /** The content again as `renderXml` takes it, the order of elements of the same name kept. */
  toElements(): XmlElements {
    const names = [...new Set(this.children.map((child) => child.name))];
    return Object.fromEntries(
      names.map((name) => [
        name,
        this.all(name).map((child) => (child.children.length === 0 ? child.text : child.toElements())),
      ]),
    );
  }

  /** Refuses elements that the operation does not know, which would otherwise be ignored. */
  allow(...names: readonly string[]): this {
    const other = this.children.find((child) => !names.includes(child.name));
    if (other !== undefined)
      throw new S3Error('NotImplemented', `<${other.name}> in <${this.name}> is not implemented by this server.`);
    return this;
  }
}

const TOKEN =
  /<\?[^]*?\?>|<!--[^]*?-->|<(\/?)([A-Za-z_][\w.:-]*)((?:\s+[\w.:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>|([^<]+)/y;
const MAX_DEPTH = 12;

/** Parses a request document whose root is `root`. MalformedXML for anything else; document types are refused with it. */
export function parseXml(source: string, root: string): XmlNode {
  const top = new XmlNode('');
  const open = [top];
  TOKEN.lastIndex = source.startsWith('\ufeff') ? 1 : 0;
  while (TOKEN.lastIndex < source.length) {
    const token = TOKEN.exec(source);
    const parent = open.at(-1);
    if (token === null || parent === undefined) throw new S3Error('MalformedXML');
    const [, closing, name, , empty, text] = token;
    if (text !== undefined) parent.text += unescapeXml(text);
    if (name === undefined) continue;
    if (closing === '/') {
      if (parent.name !== name || open.length === 1) throw new S3Error('MalformedXML');
      open.pop();
      continue;
    }
    const node = new XmlNode(name);
    parent.children.push(node);
    if (empty !== '/') open.push(node);
    if (open.length > MAX_DEPTH) throw new S3Error('MalformedXML');
  }
  const [document] = top.children;
  if (open.length !== 1 || top.children.length !== 1 || document?.name !== root || top.text.trim() !== '')
    throw new S3Error('MalformedXML');
  return document;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  return text.replace(/&([^;&]*);?/g, (whole, name: string) => {
    const number = /^#(?:x([0-9a-fA-F]{1,6})|(\d{1,7}))$/.exec(name);
    const code =
      number === null ? undefined : Number.parseInt(number[1] ?? number[2] ?? '', number[1] === undefined ? 10 : 16);
    const character = code !== undefined && code <= 0x10ffff ? String.fromCodePoint(code) : ENTITIES[name];
    if (character === undefined || !whole.endsWith(';')) throw new S3Error('MalformedXML');
    return character;
  });
}
