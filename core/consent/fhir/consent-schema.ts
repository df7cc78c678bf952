/** What Anneal reads of a FHIR R4 Consent. Everything else of it was checked by {@link problemsOf} and is kept as it is. */
import { z } from 'zod';
import { fhirDateSchema } from './fhir-dates.ts';

const uri = z.string().min(1).max(400);
const code = z.string().min(1).max(200);
const list = <T extends z.ZodType>(schema: T, most = 100) => z.array(schema).max(most).optional();

const codingSchema = z.object({ system: uri.optional(), code: code.optional() });
export type FhirCoding = z.infer<typeof codingSchema>;
const conceptSchema = z.object({ coding: list(codingSchema), text: z.string().max(2000).optional() });
export type FhirConcept = z.infer<typeof conceptSchema>;

const identifierSchema = z.object({ system: uri.optional(), value: z.string().min(1).max(400).optional() });
export type FhirIdentifier = z.infer<typeof identifierSchema>;
export const referenceSchema = z.object({
  reference: z.string().min(1).max(1000).optional(),
  type: z.string().max(100).optional(),
  identifier: identifierSchema.optional(),
});
export type FhirReference = z.infer<typeof referenceSchema>;

/** `_start` and `_end` say why a date is missing; then it is unknown, and not open. */
const periodSchema = z.object({
  start: fhirDateSchema.optional(),
  end: fhirDateSchema.optional(),
  _start: z.unknown().optional(),
  _end: z.unknown().optional(),
});
export type FhirPeriod = z.infer<typeof periodSchema>;

const provisionFields = {
  period: periodSchema.optional(),
  code: list(conceptSchema),
  purpose: list(codingSchema),
  // Restrictions that Anneal cannot weigh: that they are there is what counts.
  actor: list(z.unknown(), 1000),
  action: list(z.unknown()),
  securityLabel: list(z.unknown()),
  class: list(z.unknown()),
  dataPeriod: z.unknown().optional(),
  data: list(z.unknown(), 1000),
};
const typeSchema = z.enum(['deny', 'permit'], { error: 'neither "deny" nor "permit"' });

export interface Provision extends z.infer<z.ZodObject<typeof provisionFields>> {
  type?: 'deny' | 'permit' | undefined;
  provision?: Provision[] | undefined;
}
const nestedSchema: z.ZodType<Provision> = z.object({
  ...provisionFields,
  type: typeSchema,
  get provision() {
    return list(nestedSchema, 500);
  },
});

/** R4 allows no `type` at the root; gICS and the MII state one there, as later versions of FHIR do. */
const rootSchema = z.object({
  ...provisionFields,
  type: typeSchema.optional(),
  provision: list(nestedSchema, 500),
});

export const consentStatusCodes = [
  'draft',
  'proposed',
  'active',
  'rejected',
  'inactive',
  'entered-in-error',
] as const;

export const fhirConsentSchema = z.object({
  resourceType: z.literal('Consent'),
  id: z.string().max(64).optional(),
  meta: z.object({ lastUpdated: z.iso.datetime({ offset: true }).optional() }).optional(),
  identifier: list(identifierSchema),
  contained: list(
    z.object({
      resourceType: z.enum(['RelatedPerson', 'DocumentReference', 'Organization'], {
        error: 'a kind of contained resource that Anneal does not know',
      }),
      id: z.string().min(1).max(64),
      relationship: list(conceptSchema),
    }),
  ),
  status: z.enum(consentStatusCodes, { error: 'no status of a Consent' }),
  scope: conceptSchema,
  category: list(conceptSchema),
  patient: referenceSchema,
  dateTime: fhirDateSchema.optional(),
  performer: list(referenceSchema),
  policy: list(z.object({ authority: uri.optional(), uri: uri.optional() })),
  policyRule: conceptSchema.optional(),
  verification: list(
    z.object({
      verified: z.boolean(),
      verificationDate: fhirDateSchema.optional(),
    }),
  ),
  provision: rootSchema.optional(),
});
export type FhirConsent = z.infer<typeof fhirConsentSchema>;

/** Of a Patient or RelatedPerson in the same Bundle: nothing that says who it is. */
export const personSchema = z.object({
  resourceType: z.enum(['Patient', 'RelatedPerson']),
  id: z.string().max(64).optional(),
  identifier: list(identifierSchema),
  relationship: list(conceptSchema),
});
export type FhirPerson = z.infer<typeof personSchema>;
