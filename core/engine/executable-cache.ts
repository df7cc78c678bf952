/** Compiled graphs, kept between jobs: compiling costs about as much as several training steps. */
import type { Graph, ValueType } from '../graph/graph.ts';
import { hashJson } from '../shared/hash.ts';
import type { CompileOptions, Engine, EngineName, Executable } from './engine.ts';
import { type GraphFacts, graphFacts } from './graph-facts.ts';

export interface ExecutableOptions extends CompileOptions {
  engine: EngineName;
}

/** A compiled graph with the types of what it is fed. */
export interface Compiled {
  readonly executable: Executable;
  readonly inputTypes: ReadonlyMap<string, ValueType>;
}

export interface ExecutableCache {
  /**
   * @param key everything that `build` depends on; must have a JSON form
   * @throws AppError what loading the engine and {@link Engine.compile} throw
   */
  get(key: unknown, build: () => Graph, options: ExecutableOptions): Promise<Compiled>;
  /** {@link graphFacts}, remembered by what the graph depends on: building one takes as long as a step. */
  facts(key: unknown, build: () => Graph): GraphFacts;
  /** Gives back the memory of all of them; one whose device is gone counts as released. */
  release(): Promise<void>;
}

/**
 * Holds up to `capacity` executables; the least recently used is released first.
 * @param loadEngine the engine of a name
 */
export function createExecutableCache(
  loadEngine: (name: EngineName) => Promise<Engine>,
  capacity: number,
): ExecutableCache {
  const compiled = new Map<string, Compiled>();
  const known = new Map<string, GraphFacts>();
  return {
    async get(key, build, options) {
      const id = hashJson({ key, options });
      const found = compiled.get(id);
      if (found) {
        compiled.delete(id);
        compiled.set(id, found);
        return found;
      }
      for (const [oldest, { executable }] of compiled) {
        if (compiled.size < capacity) break;
        compiled.delete(oldest);
        await releaseQuietly(executable);
      }
      const { engine: name, ...compileOptions } = options;
      const engine = await loadEngine(name);
      const graph = build();
      const executable = await engine.compile(graph, compileOptions);
      const inputTypes = new Map(graph.inputs.map((input) => [input, graph.types.get(input)!]));
      const made = { executable, inputTypes };
      compiled.set(id, made);
      return made;
    },
    facts(key, build) {
      const id = hashJson(key);
      const found = known.get(id) ?? graphFacts(build());
      known.set(id, found);
      return found;
    },
    async release() {
      const all = [...compiled.values()];
      compiled.clear();
      for (const { executable } of all) await releaseQuietly(executable);
    },
  };
}

async function releaseQuietly(executable: Executable): Promise<void> {
  // A lost device cannot give back what it no longer has.
  await executable.release().catch(() => {});
}
