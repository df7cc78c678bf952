export const machineTimeZone = (): string => new Intl.DateTimeFormat().resolvedOptions().timeZone;
