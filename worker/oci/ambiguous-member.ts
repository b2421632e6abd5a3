/**
 * The members of an object in a manifest. `members` are the names that the specifications define; undefined for a map, whose keys the author
 * of the image chooses. `inside` has the shape of the objects below a member, directly or in a list; other objects are not checked.
 */
interface Shape {
  readonly members: ReadonlySet<string> | undefined;
  readonly inside: Readonly<Record<string, Shape>>;
}

const MAP: Shape = { members: undefined, inside: {} };
const PLATFORM: Shape = {
  members: new Set(['architecture', 'os', 'variant', 'os.version', 'os.features', 'features']),
  inside: {},
};
const DESCRIPTOR: Shape = {
  members: new Set(['mediaType', 'digest', 'size', 'urls', 'platform', 'artifactType', 'annotations', 'data']),
  inside: { platform: PLATFORM, annotations: MAP },
};
/** The members that hold a descriptor, or a list of them. */
const DESCRIPTORS = ['manifests', 'layers', 'blobs', 'config', 'subject'];
const MANIFEST: Shape = {
  members: new Set(['schemaVersion', 'mediaType', 'artifactType', 'annotations', ...DESCRIPTORS]),
  inside: { annotations: MAP, ...Object.fromEntries(DESCRIPTORS.map((name) => [name, DESCRIPTOR])) },
};

/** An object or list whose end has not been reached. */
interface Open {
  readonly isObject: boolean;
  /** The shape of the object, or of the objects in the list; undefined for what is not checked. */
  readonly shape: Shape | undefined;
  /** The names of its members so far; undefined for lists, and for what is not checked. */
  readonly seen: Set<string> | undefined;
  /** Whether the next string is the name of a member. */
  expectsName: boolean;
  /** The member whose value comes next. */
  member: string;
}

/**
 * Why two programs could read the manifest in `text`, which is valid JSON, as different images; undefined when they cannot. Of two members
 * with one name `JSON.parse` takes the last, and Go matches names without regard to case, so an image could have layers for some programs
 * only. Checks the manifest, descriptors, platforms and annotations, in one pass over the text.
 */
export function ambiguousMember(text: string): string | undefined {
  const open: Open[] = [];
  for (let at = 0; at < text.length; at++) {
    const top = open.at(-1);
    switch (text.charAt(at)) {
      case '{':
      case '[':
        open.push(begin(text[at] === '{', top));
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case ',':
        if (top !== undefined) top.expectsName = top.isObject;
        break;
      case '"': {
        const end = endOfString(text, at);
        if (top?.expectsName === true) {
          top.expectsName = false;
          top.member = '';
          if (top.shape !== undefined && top.seen !== undefined) {
            top.member = nameIn(text.slice(at, end + 1));
            const fault = faultOf(top.member, top.shape, top.seen);
            if (fault !== undefined) return fault;
          }
        }
        at = end;
        break;
      }
      default:
    }
  }
  return undefined;
}

function begin(isObject: boolean, top: Open | undefined): Open {
  const inside = top?.isObject === true ? own(top.shape?.inside, top.member) : top?.shape;
  const shape = top === undefined ? MANIFEST : inside;
  const seen = isObject && shape !== undefined ? new Set<string>() : undefined;
  return { isObject, shape, seen, expectsName: isObject, member: '' };
}

function own(shapes: Readonly<Record<string, Shape>> | undefined, name: string): Shape | undefined {
  return shapes !== undefined && Object.hasOwn(shapes, name) ? shapes[name] : undefined;
}

function faultOf(name: string, shape: Shape, seen: Set<string>): string | undefined {
  if (seen.has(name)) return `it has the member ${JSON.stringify(shortened(name))} twice`;
  seen.add(name);
  if (shape.members === undefined || shape.members.has(name)) return undefined;
  const known = [...shape.members].find((member) => folded(member) === folded(name));
  return known === undefined
    ? undefined
    : `its member ${JSON.stringify(name)} differs from "${known}" only in case, and some programs read both as one member`;
}

/** A name as Go compares it: without regard to case, the long s and the Kelvin sign included. */
function folded(name: string): string {
  return name.replaceAll('\u017f', 's').toLowerCase();
}

/** The keys of a map may be as long as the manifest. */
function shortened(name: string): string {
  return name.length > 100 ? `${name.slice(0, 100)}…` : name;
}

/** Where the string that begins at `start` ends. A quote after an odd number of backslashes is part of it. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) return end;
  }
  return text.length;
}

function nameIn(literal: string): string {
  return literal.includes('\\') ? String(JSON.parse(literal)) : literal.slice(1, -1);
}
