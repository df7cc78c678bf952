/** `anneal consent …`: what subjects consented to. */
import type { Command } from 'commander';
import { addConsentDocumentCommands } from './consent-documents.ts';
import { addConsentFileCommands } from './consent-files.ts';
import { addConsentRightsCommands } from './consent-rights.ts';

export function addConsentCommands(program: Command): void {
  const consent = program.command('consent').description('what subjects consented to, and their rights');
  addConsentDocumentCommands(consent);
  addConsentFileCommands(consent);
  addConsentRightsCommands(consent);
}
