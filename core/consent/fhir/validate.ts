/** Whether a resource is valid FHIR R4: by HL7's own structure definitions, their invariants among them. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type * as Medplum from '@medplum/core';
import type { Bundle, Resource, StructureDefinition } from '@medplum/fhirtypes';

const require = createRequire(import.meta.url);
let validator: typeof Medplum | null = null;

/** Loaded at the first question, with definitions made by build/fhir-definitions.ts: no start of Anneal waits for them. */
function prepared(): typeof Medplum {
  if (validator !== null) return validator;
  const loaded = require('@medplum/core') as typeof Medplum;
  const text = readFileSync(new URL('./r4-definitions.json', import.meta.url), 'utf8');
  loaded.indexStructureDefinitionBundle(JSON.parse(text) as Bundle<StructureDefinition>);
  validator = loaded;
  return loaded;
}

/**
 * What is wrong with it, as sentences without values of it; empty when it is valid. Codes are not looked up in code
 * systems: the schema of what Anneal uses does that.
 * @param resource of bounded depth; Consent, Bundle or one of the types that a Consent may contain
 */
export function problemsOf(resource: object): string[] {
  const { OperationOutcomeError, validateResource } = prepared();
  try {
    // The library repairs nothing, but its types want a resource; it is there to find out whether it is one.
    const warnings = validateResource(resource as Resource);
    return warnings.filter(isMeant).map(describe);
  } catch (error) {
    if (error instanceof OperationOutcomeError) return (error.outcome.issue ?? []).map(describe);
    // A shape that the library did not expect is not FHIR.
    return ['it is no FHIR resource'];
  }
}

/** The library reads the kind of a reference off its first letters, which says nothing of an absolute one. */
const isMeant = ({ severity, details }: { severity?: string; details?: { text?: string } }) =>
  severity !== 'information' && details?.text?.startsWith('Invalid reference: ') !== true;

function describe({ details, expression }: { details?: { text?: string }; expression?: string[] }): string {
  // Of an invariant its formula is left out; unknown names may be anything.
  const text = (details?.text ?? 'invalid').split(' ({"')[0]!;
  const place = expression?.[0];
  const message = place === undefined ? text : `${text} (${place})`;
  return message.length > 200 ? `${message.slice(0, 199)}…` : message;
}
