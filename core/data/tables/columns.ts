/** Which column of a hospital's table is which of Anneal's fields. Suggested by its name, confirmed by a person. */
import { z } from 'zod';
import { hashJson } from '../../shared/hash.ts';

export const fields = [
  'file',
  'subject',
  'label',
  'split',
  'site',
  'consent',
  'consent_purpose',
  'consent_document',
  'consent_from',
  'consent_expires',
] as const;
export type Field = (typeof fields)[number];
export const fieldSchema = z.enum(fields);

/** Null: no column, said by a person. */
export type ColumnMap = Partial<Record<Field, string | null>>;
const columnName = z.string().max(1000);
export const columnMapSchema = z.partialRecord(fieldSchema, columnName.nullable());

/**
 * Whole names only, in English, German, French and Spanish, without accents, small, `_` between words. A name that could
 * mean several things, such as `id`, `name` or `status`, is in no list.
 */
const synonyms: Record<Field, string> = {
  file: `file_name filename image image_file picture photo photo_file path bild bilddatei datei dateiname foto
    fichier nom_du_fichier nom_de_fichier archivo fichero nombre_de_archivo imagen`,
  subject: `subject_id subjectid patient patient_id patientid patients_id patienten_id patientenid patientennummer pid
    participant participant_id record_id pseudonym pseudonyme patientenpseudonym pseudonym_id proband probanden_id
    probandenid study_id studien_id id_patient numero_patient sujet id_sujet paciente id_paciente sujeto seudonimo`,
  label: `class klasse category kategorie diagnosis diagnose befund classe categorie diagnostic clase categoria
    etiquette etiqueta diagnostico`,
  split: 'aufteilung partition datensplit repartition particion',
  // For splitting one table over the sites of a simulation; a hospital's own table has no use for it.
  site: '',
  consent: `consent_status consentstatus consented einwilligung einwilligungsstatus status_einwilligung
    einverstaendnis einverstandnis zustimmung consentement statut_consentement consentimiento estado_consentimiento`,
  consent_purpose: 'purpose zweck einwilligungszweck finalite objet_consentement finalidad',
  consent_document: `consent_version document_version form_version einwilligungsversion formularversion
    version_einwilligung version_consentement version_consentimiento`,
  consent_from: `consent_date date_of_consent consented_on valid_from einwilligungsdatum datum_einwilligung
    einwilligung_am einwilligung_vom gultig_ab gueltig_ab date_consentement date_du_consentement
    fecha_consentimiento valable_depuis valido_desde`,
  consent_expires: `valid_until valid_to expires expiry expiry_date consent_until gultig_bis gueltig_bis
    einwilligung_bis ablaufdatum valable_jusqu_au date_expiration valido_hasta fecha_caducidad`,
};
const fieldOfSynonym = new Map<string, Field>(
  fields.flatMap((field) =>
    (synonyms[field].match(/\S+/g) ?? []).map((name): [string, Field] => [name, field]),
  ),
);
/** Of REDCap, for repeated and longitudinal forms: known, and of no use here. */
const ignored = /^redcap_(event_name|repeat_instrument|repeat_instance|survey_identifier|data_access_group)$/;
/** REDCap writes one column for each box that can be ticked. */
const consentBox = /^(?:consent|einwilligung|consentement|consentimiento)___\d+$/;

/** `Patienten-ID` and `patienten_id` are one name. */
export const plainName = (name: string): string =>
  name
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .replaceAll('ß', 'ss')
    .toLowerCase()
    .trim()
    .replaceAll(/([_\s.\-/']+)/g, (run) => (run.includes('___') ? '___' : '_'));

export interface ColumnChoice {
  field: Field;
  /** As it stands in the table; null when no column is used. */
  column: string | null;
  /** Who says so: Anneal's own name, a person now, a person before (same columns), or nobody yet. */
  by: 'name' | 'person' | 'remembered' | 'suggested';
}

export interface Mapping {
  /** One for each field that has a column, or of which a person said that it has none. */
  choices: ColumnChoice[];
  /** Columns of the table that two or more could be, by field; nothing is suggested then. */
  ambiguous: Partial<Record<Field, string[]>>;
  /** Columns that nothing is taken from. */
  unused: string[];
}

/** @param given by a person, now; @param remembered what a person gave for the same columns before */
export function mapColumns(
  header: readonly string[],
  given: ColumnMap = {},
  remembered: ColumnMap | null = null,
): Mapping {
  const choices: ColumnChoice[] = [];
  const ambiguous: Mapping['ambiguous'] = {};
  const asked = { ...remembered, ...given };
  for (const field of fields) {
    const said = asked[field];
    if (said !== undefined) {
      choices.push({ field, column: said, by: given[field] === undefined ? 'remembered' : 'person' });
      continue;
    }
    const own = header.filter((name) => plainName(name) === field);
    if (own.length > 0) {
      choices.push({ field, column: own[0]!, by: 'name' });
      continue;
    }
    const similar = header.filter((name) => fieldLike(name) === field);
    if (similar.length === 1) choices.push({ field, column: similar[0]!, by: 'suggested' });
    else if (similar.length > 1) ambiguous[field] = similar;
  }
  const byPerson = new Set(choices.filter(({ by }) => by !== 'suggested').map(({ column }) => column));
  const kept = choices.filter(({ by, column }) => by !== 'suggested' || !byPerson.has(column));
  const used = new Set(kept.map(({ column }) => column));
  return { choices: kept, ambiguous, unused: header.filter((name) => name !== '' && !used.has(name)) };
}

function fieldLike(name: string): Field | null {
  const plain = plainName(name);
  if (ignored.test(plain)) return null;
  return consentBox.test(plain) ? 'consent' : (fieldOfSynonym.get(plain) ?? null);
}

/** The same columns in the same order; what is remembered of a table is kept under it. */
export const headerSignature = (header: readonly string[]): string => hashJson(header.map(plainName));
