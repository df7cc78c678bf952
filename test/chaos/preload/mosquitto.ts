/** Loaded into a coordinator: its embedded broker is one that an administrator runs, a Mosquitto. All else is the product. */
import { registerHooks } from 'node:module';

const standIn = new URL('./mosquitto-broker.ts', import.meta.url).href;

registerHooks({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context);
    return resolved.url.endsWith('/core/transport/broker.ts') ? { ...resolved, url: standIn } : resolved;
  },
});
