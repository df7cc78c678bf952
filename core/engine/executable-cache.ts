/** Compiled graphs, kept between jobs: compiling costs about as much as several training steps. */
import type { Graph, ValueType } from '../graph/graph.ts';
import { hashJson } from '../shared/hash.ts';
import type { CompileOptions, Engine, EngineName, Executable } from './engine.ts';
import { peakBytes } from './micro-batch.ts';

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
  /** {@link peakBytes} of a graph, remembered by what it depends on: building one takes as long as a step. */
  peakBytes(key: unknown, build: () => Graph): number;
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
  const peaks = new Map<string, number>();
  return {
    async get(key, build, options) {
      const id = hashJson({ key, options });
      const known = compiled.get(id);
      if (known) {
        compiled.delete(id);
        compiled.set(id, known);
        return known;
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
    peakBytes(key, build) {
      const id = hashJson(key);
      const bytes = peaks.get(id) ?? peakBytes(build());
      peaks.set(id, bytes);
      return bytes;
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
