/** `anneal consent import | export`. */
import type { Command } from 'commander';

export function addConsentFileCommands(_consent: Command): void {}
