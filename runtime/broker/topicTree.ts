/** Topic filters arranged by level: which values stand under a filter that matches a topic? MQTT 3.1.1 §4.7. */

interface Branch<T> {
  readonly children: Map<string, Branch<T>>;
  /** Replaced, never changed in place: a listener may come or go while a match is being served. */
  values: readonly T[];
}

const branch = <T>(): Branch<T> => ({ children: new Map(), values: [] });

export class TopicTree<T> {
  readonly #root: Branch<T> = branch();
  #size = 0;

  /** Number of values stored. */
  get size(): number { return this.#size; }

  add(filter: string, value: T): void {
    let node = this.#root;
    for (const level of filter.split('/')) {
      let next = node.children.get(level);
      if (next === undefined) node.children.set(level, next = branch());
      node = next;
    }
    node.values = [...node.values, value];
    this.#size++;
  }

  /** Removes the first value under exactly this filter that `same` accepts; false when there is none. */
  remove(filter: string, same: (value: T) => boolean): boolean {
    const path: { parent: Branch<T>; level: string }[] = [];
    let node = this.#root;
    for (const level of filter.split('/')) {
      const next = node.children.get(level);
      if (next === undefined) return false;
      path.push({ parent: node, level });
      node = next;
    }
    const at = node.values.findIndex(same);
    if (at < 0) return false;
    node.values = node.values.toSpliced(at, 1);
    this.#size--;
    for (const { parent, level } of path.toReversed()) {
      if (node.values.length > 0 || node.children.size > 0) break;
      parent.children.delete(level);
      node = parent;
    }
    return true;
  }

  /** Appends to `into` every value whose filter matches `topic`; a value under two matching filters appears twice. */
  collect(topic: string, into: T[]): void {
    this.#walk(this.#root, topic, 0, into);
  }

  #walk(node: Branch<T>, topic: string, start: number, into: T[]): void {
    const slash = topic.indexOf('/', start);
    const exact = node.children.get(slash < 0 ? topic.slice(start) : topic.slice(start, slash));
    if (exact !== undefined) this.#arrive(exact, topic, slash, into);
    // §4.7.2: a filter that starts with a wildcard does not match a topic that starts with $
    if (start === 0 && topic.startsWith('$')) return;
    const one = node.children.get('+');
    if (one !== undefined) this.#arrive(one, topic, slash, into);
    const rest = node.children.get('#');
    if (rest !== undefined) into.push(...rest.values);
  }

  #arrive(node: Branch<T>, topic: string, slash: number, into: T[]): void {
    if (slash >= 0) return this.#walk(node, topic, slash + 1, into);
    // §4.7.1.2: `sport/#` also matches `sport`
    const rest = node.children.get('#');
    if (rest !== undefined) into.push(...rest.values);
    into.push(...node.values);
  }
}
