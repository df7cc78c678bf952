/** Imported before any schema: the content security policy allows no code that is made at run time. */
import { config } from 'zod';

config({ jitless: true });
