/** `anneal consent report | erase`. */
import type { Command } from 'commander';

export function addConsentRightsCommands(_consent: Command): void {}
