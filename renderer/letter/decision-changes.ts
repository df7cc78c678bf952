/** What is asked again after any decision; see `useAction`. */
export const decisionChanges = ['site', 'status', 'audit'] as const;
