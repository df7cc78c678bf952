/** Compiled graphs, kept between jobs: compiling costs about as much as several training steps. */
import type { Graph } from '../graph/graph.ts';
import { hashJson } from '../shared/hash.ts';
import type { CompileOptions, Engine, Executable } from './engine.ts';

export interface ExecutableCache {
  /** @param key everything that `build` depends on; must have a JSON form */
  get(key: unknown, build: () => Graph, options: CompileOptions): Promise<Executable>;
  release(): Promise<void>;
}

/** Holds up to `capacity` executables; the least recently used is released first. */
export function createExecutableCache(engine: Engine, capacity: number): ExecutableCache {
  const executables = new Map<string, Executable>();
  return {
    async get(key, build, options) {
      const id = hashJson({ key, options });
      const known = executables.get(id);
      if (known) {
        executables.delete(id);
        executables.set(id, known);
        return known;
      }
      for (const [oldest, executable] of executables) {
        if (executables.size < capacity) break;
        executables.delete(oldest);
        await executable.release();
      }
      const executable = await engine.compile(build(), options);
      executables.set(id, executable);
      return executable;
    },
    async release() {
      const all = [...executables.values()];
      executables.clear();
      for (const executable of all) await executable.release();
    },
  };
}
