/** Compiled graphs, kept between jobs: compiling costs about as much as several training steps. */
import type { Graph } from '../graph/graph.ts';
import { hashJson } from '../shared/hash.ts';
import type { CompileOptions, Engine, EngineName, Executable } from './engine.ts';

export interface ExecutableOptions extends CompileOptions {
  engine: EngineName;
}

export interface ExecutableCache {
  /**
   * @param key everything that `build` depends on; must have a JSON form
   * @throws AppError what loading the engine and {@link Engine.compile} throw
   */
  get(key: unknown, build: () => Graph, options: ExecutableOptions): Promise<Executable>;
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
        await releaseQuietly(executable);
      }
      const { engine: name, ...compileOptions } = options;
      const engine = await loadEngine(name);
      const executable = await engine.compile(build(), compileOptions);
      executables.set(id, executable);
      return executable;
    },
    async release() {
      const all = [...executables.values()];
      executables.clear();
      for (const executable of all) await releaseQuietly(executable);
    },
  };
}

async function releaseQuietly(executable: Executable): Promise<void> {
  // A lost device cannot give back what it no longer has.
  await executable.release().catch(() => {});
}
