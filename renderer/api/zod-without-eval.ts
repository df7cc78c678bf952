/**
 * Imported before any schema: the content security policy allows no code that is made at run time, and the window holds
 * nothing but what the preload script puts there.
 */
import { config } from 'zod';

config({ jitless: true });
Reflect.deleteProperty(globalThis, '__zod_globalRegistry');
