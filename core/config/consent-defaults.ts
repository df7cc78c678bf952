/** What consents are about and how far ahead people are told of their end, where nobody says otherwise. */

/** What the runs of Anneal are for. */
export const defaultPurpose = 'federated-training';

/** Days ahead for which people at a site are told of consents that end. */
export const noticeDays = 60;
