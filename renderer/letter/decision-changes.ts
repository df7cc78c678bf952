/** What is asked again after any decision; see `useAction`. */
export const decisionChanges = ['site', 'status', 'audit', 'people'] as const;

/** Who may decide. */
export const approver = ['approver'] as const;

/** Where the policy asks for two people. */
export const waitsForSecond =
  'Proposed. Nothing happens before a second person has confirmed it on the screen “Requests”.';
