import { readFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import {
  isBindingElement,
  isClassDeclaration,
  isFunctionDeclaration,
  isFunctionTypeNode,
  isIdentifier,
  isImportDeclaration,
  isInterfaceDeclaration,
  isMethodDeclaration,
  isMethodSignatureDeclaration,
  isObjectBindingPattern,
  isObjectLiteralExpression,
  isPrivateIdentifier,
  isPropertyAssignment,
  isPropertySignatureDeclaration,
  isTypeAliasDeclaration,
  isTypeReferenceNode,
  isVariableStatement,
  type ClassDeclaration,
  type Node,
} from 'typescript/unstable/ast';
import { API, SymbolFlags, type Checker, type Symbol, type Type } from 'typescript/unstable/sync';

/** A piece of code that counts as a whole: a function, constant or class at the top level of a file, or one method of a class. */
interface Unit {
  /** `worker/objects/s3/store.ts S3Store.write`. */
  readonly name: string;
  readonly file: string;
  readonly text: string;
}

/** Which code of worker/ names which other code, as the compiler resolves names. Tests are left out. */
export interface CallGraph extends Disposable {
  /** What may run once one of these units runs. A call through an interface may reach every class that implements it. */
  reachableFrom(...names: readonly string[]): readonly Unit[];
  /** How one unit reaches another, for the message of a failing test. */
  pathBetween(from: string, to: string): readonly string[];
  /**
   * The methods of an interface, with the units that name each. A member of the same name does not count: a decorator that forwards the call
   * is not a caller.
   */
  callersOf(file: string, name: string): ReadonlyMap<string, readonly Unit[]>;
}

/** The declaration that a name refers to: its file and the number of its node there. */
type Key = string;

interface MutableUnit extends Unit {
  readonly names: Set<Key>;
}

/** Reads worker/ with the compiler, which takes seconds: once for a file of tests. Disposing stops the compiler. */
export function readCallGraph(): CallGraph {
  const api = new API();
  const [project] = api.updateSnapshot({ openProjects: [resolve('tsconfig.json')] }).getProjects();
  if (project === undefined) throw new Error('tsconfig.json is not a project');
  const reader = new GraphReader(project.checker);
  for (const path of project.program.getSourceFileNames()) {
    const file = relative('.', path);
    const source = file.startsWith('worker/') ? project.program.getSourceFile(path) : undefined;
    if (source !== undefined) reader.add(file, source);
  }
  return reader.finish(() => api.close());
}

class GraphReader {
  readonly #checker: Checker;
  readonly #units: MutableUnit[] = [];
  readonly #unitOf = new Map<Key, MutableUnit>();
  readonly #methods = new Map<string, ReadonlyMap<string, Key>>();
  /** The class members that implement a member of an interface. */
  readonly #implementations = new Map<Key, ReadonlySet<Key>>();
  readonly #references: { readonly key: Key; readonly unit: MutableUnit; readonly inside: readonly Node[] }[] = [];
  readonly #interfaceTypes: { readonly type: Type; readonly methods: ReadonlyMap<string, Key> }[] = [];
  readonly #classes: { readonly type: Type; readonly methods: ReadonlyMap<string, Key> }[] = [];
  readonly #aliased = new Map<number, Key | undefined>();

  constructor(checker: Checker) {
    this.#checker = checker;
  }

  finish(close: () => void): CallGraph {
    this.#findImplementations();
    return {
      [globalThis.Symbol.dispose]: close,
      reachableFrom: (...names) => [...this.#reached(names).keys()],
      pathBetween: (from, to) => this.#pathBetween(from, to),
      callersOf: (file, name) => {
        const methods = this.#methods.get(`${file} ${name}`);
        if (methods === undefined) throw new Error(`${file} has no interface ${name}`);
        return this.#callersOf(methods);
      },
    };
  }

  add(file: string, source: Node): void {
    const text = readFileSync(file, 'utf8');
    const unit = (name: string, declared: Node | undefined, parts: readonly Node[]): void =>
      this.#addUnit(
        {
          name: `${file} ${name}`,
          file,
          text: parts.map((part) => text.slice(part.pos, part.end)).join('\n'),
          names: new Set(),
        },
        declared,
        parts,
      );
    source.forEachChild((node) => {
      if (isInterfaceDeclaration(node)) {
        const keys = node.members.flatMap((member): [string, Key][] => {
          const isMethod =
            isMethodSignatureDeclaration(member) ||
            (isPropertySignatureDeclaration(member) && containsFunctionType(member));
          if (!isMethod || !isIdentifier(member.name)) return [];
          const key = this.#keyOf(member.name);
          return key === undefined ? [] : [[member.name.text, key]];
        });
        this.#methods.set(`${file} ${node.name.text}`, new Map(keys));
        this.#keepType(this.#interfaceTypes, node.name, new Map(keys));
      } else if (isClassDeclaration(node) && node.name !== undefined) {
        const methods = node.members.flatMap((member): [string, Key][] => {
          const name = methodName(member);
          const key = name === undefined || !isIdentifier(name) ? undefined : this.#keyOf(name);
          return name === undefined || key === undefined ? [] : [[name.text, key]];
        });
        this.#keepType(this.#classes, node.name, new Map(methods));
        this.#addNamedImplementations(node, new Map(methods));
        const own = node.members.filter((member) => !isMethodDeclaration(member) || methodName(member) === undefined);
        unit(node.name.text, node.name, own);
        for (const member of node.members) {
          const name = methodName(member);
          if (name !== undefined) unit(`${node.name.text}.${name.text}`, name, [member]);
        }
      } else if (isFunctionDeclaration(node)) unit(node.name?.text ?? 'default', node.name, [node]);
      else if (isVariableStatement(node))
        for (const one of node.declarationList.declarations)
          unit(isIdentifier(one.name) ? one.name.text : 'several', one.name, [one]);
      // what runs when the file is loaded
      else if (!isImportDeclaration(node) && !isTypeAliasDeclaration(node)) unit('', undefined, [node]);
      return undefined;
    });
  }

  #keepType(
    to: { readonly type: Type; readonly methods: ReadonlyMap<string, Key> }[],
    name: Node,
    methods: ReadonlyMap<string, Key>,
  ): void {
    const symbol = this.#checker.getSymbolAtLocation(name);
    if (symbol !== undefined && methods.size > 0)
      to.push({ type: this.#checker.getDeclaredTypeOfSymbol(symbol), methods });
  }

  #addUnit(unit: MutableUnit, declared: Node | undefined, parts: readonly Node[]): void {
    this.#units.push(unit);
    for (const name of declared === undefined ? [] : namesIn(declared)) {
      const key = this.#keyOf(name);
      if (key !== undefined) this.#unitOf.set(key, unit);
    }
    const references = parts.flatMap((part) => referencesIn(part));
    const symbols = this.#checker.getSymbolAtLocation(references.map(({ node }) => node));
    for (const [index, { node, inside }] of references.entries()) {
      const key = isObjectBindingPattern(node.parent.parent)
        ? this.#destructured(node)
        : this.#keyOfSymbol(symbols[index]);
      if (key === undefined) continue;
      unit.names.add(key);
      this.#references.push({ key, unit, inside });
    }
  }

  /** Finds the methods of classes that implement those of interfaces, whether or not a class declares it. */
  #findImplementations(): void {
    for (const one of this.#classes)
      for (const other of this.#interfaceTypes) {
        const common = [...other.methods].filter(([name]) => one.methods.has(name));
        if (common.length === 0 || !this.#checker.isTypeAssignableTo(one.type, other.type)) continue;
        for (const [name, key] of common) this.#addImplementation(key, one.methods.get(name));
      }
  }

  /** Adds the interfaces that a class declares: also generic ones, which are not types by themselves. */
  #addNamedImplementations(node: ClassDeclaration, methods: ReadonlyMap<string, Key>): void {
    for (const { types } of node.heritageClauses ?? [])
      for (const one of types) {
        const type = this.#checker.getTypeAtLocation(one);
        for (const property of type === undefined ? [] : this.#checker.getPropertiesOfType(type)) {
          const key = keyIn(property);
          if (key !== undefined) this.#addImplementation(key, methods.get(property.name));
        }
      }
  }

  #addImplementation(key: Key, own: Key | undefined): void {
    if (own !== undefined && own !== key)
      this.#implementations.set(key, new Set(this.#implementations.get(key)).add(own));
  }

  #callersOf(methods: ReadonlyMap<string, Key>): ReadonlyMap<string, readonly Unit[]> {
    const callers = new Map(Array.from(methods, ([method, key]) => [key, { method, units: new Set<Unit>() }]));
    for (const { key, unit, inside } of this.#references) {
      const found = callers.get(key);
      if (found !== undefined && !inside.some((member) => this.#isPassedOn(key, member))) found.units.add(unit);
    }
    return new Map(Array.from(callers.values(), ({ method, units }) => [method, [...units]]));
  }

  /** Whether a member of an object literal or of a class implements the interface's member `key`. */
  #isPassedOn(key: Key, member: Node): boolean {
    if (isMethodDeclaration(member) && isClassDeclaration(member.parent)) {
      const own = this.#keyOf(member.name);
      return own !== undefined && this.#implementations.get(key)?.has(own) === true;
    }
    const name = isPropertyAssignment(member) || isMethodDeclaration(member) ? member.name : undefined;
    if (name === undefined || !isIdentifier(name) || !isObjectLiteralExpression(member.parent)) return false;
    const type = this.#checker.getContextualType(member.parent);
    const property = type === undefined ? undefined : this.#checker.getPropertyOfType(type, name.text);
    return property !== undefined && keyIn(property) === key;
  }

  /** The member that `const { member } = value` reads. */
  #destructured(name: Node): Key | undefined {
    const { parent: element } = name;
    if (!isBindingElement(element)) return undefined;
    const taken = element.propertyName ?? element.name;
    const type = this.#checker.getTypeAtLocation(element.parent);
    const property =
      type === undefined || taken === undefined || !isIdentifier(taken)
        ? undefined
        : this.#checker.getPropertyOfType(type, taken.text);
    return property === undefined ? undefined : keyIn(property);
  }

  #keyOf(node: Node): Key | undefined {
    return this.#keyOfSymbol(this.#checker.getSymbolAtLocation(node));
  }

  #keyOfSymbol(symbol: Symbol | undefined): Key | undefined {
    if (symbol === undefined || (symbol.flags & SymbolFlags.Alias) === 0)
      return symbol === undefined ? undefined : keyIn(symbol);
    if (!this.#aliased.has(symbol.id)) this.#aliased.set(symbol.id, keyIn(this.#checker.getAliasedSymbol(symbol)));
    return this.#aliased.get(symbol.id);
  }

  /** The units that these names reach, each with the previous unit on the path. */
  #reached(names: readonly string[]): ReadonlyMap<MutableUnit, MutableUnit | undefined> {
    const reached = new Map<MutableUnit, MutableUnit | undefined>();
    const loaded = new Set<string>();
    const made = new Set<string>();
    const left: (readonly [MutableUnit, MutableUnit | undefined])[] = names.map((name) => [
      this.#named(name),
      undefined,
    ]);
    /** Methods that are called through an interface, by their class, while no instance of the class is created. */
    const waiting = new Map<string, (readonly [MutableUnit, MutableUnit])[]>();
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [unit, from] = next;
      if (reached.has(unit)) continue;
      reached.set(unit, from);
      made.add(unit.name);
      left.push(...(waiting.get(unit.name) ?? []));
      if (!loaded.has(unit.file))
        for (const other of this.#units) if (other.name === `${unit.file} `) left.push([other, unit]);
      loaded.add(unit.file);
      for (const key of unit.names) {
        const named = this.#unitOf.get(key);
        if (named !== undefined) left.push([named, unit]);
        for (const one of this.#implementations.get(key) ?? []) {
          const method = this.#unitOf.get(one);
          if (method === undefined) continue;
          const owner = method.name.slice(0, method.name.lastIndexOf('.'));
          if (made.has(owner)) left.push([method, unit]);
          else waiting.set(owner, [...(waiting.get(owner) ?? []), [method, unit]]);
        }
      }
    }
    return reached;
  }

  #named(name: string): MutableUnit {
    const found = this.#units.find((unit) => unit.name === name);
    if (found === undefined) throw new Error(`there is no ${name}`);
    return found;
  }

  #pathBetween(from: string, to: string): readonly string[] {
    const reached = this.#reached([from]);
    const path: string[] = [];
    let unit: MutableUnit | undefined = this.#named(to);
    while (unit !== undefined && reached.has(unit)) {
      path.unshift(unit.name);
      unit = reached.get(unit);
    }
    return path;
  }
}

function keyIn(symbol: Symbol): Key | undefined {
  const declaration = symbol.valueDeclaration ?? symbol.declarations[0];
  return declaration === undefined ? undefined : `${declaration.path}:${declaration.index}`;
}

function methodName(member: Node) {
  if (!isMethodDeclaration(member)) return undefined;
  const { name } = member;
  return isIdentifier(name) || isPrivateIdentifier(name) ? name : undefined;
}

function containsFunctionType(node: Node): boolean {
  return isFunctionTypeNode(node) || node.forEachChild((child) => containsFunctionType(child) || undefined) === true;
}

function namesIn(node: Node): readonly Node[] {
  return referencesIn(node).map((reference) => reference.node);
}

interface Named {
  readonly node: Node;
  /** The members of the same name around the node. */
  readonly inside: readonly Node[];
}

/** Every name below a node. */
function referencesIn(node: Node, members: readonly Node[] = []): readonly Named[] {
  // what only the compiler reads
  if (isTypeReferenceNode(node)) return [];
  if (isIdentifier(node) || isPrivateIdentifier(node))
    return [{ node, inside: members.filter((member) => memberName(member) === node.text) }];
  const within = memberName(node) === undefined ? members : [...members, node];
  const found: Named[] = [];
  node.forEachChild((child) => {
    found.push(...referencesIn(child, within));
    return undefined;
  });
  return found;
}

function memberName(node: Node): string | undefined {
  if (!isPropertyAssignment(node) && !isMethodDeclaration(node)) return undefined;
  return isIdentifier(node.name) || isPrivateIdentifier(node.name) ? node.name.text : undefined;
}
