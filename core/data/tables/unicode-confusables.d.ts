/** The package ships no types. */
declare module 'unicode-confusables' {
  /** Replaces each character by the one that it can be confused with (UTS 39, confusables.txt), and drops zero-width ones. */
  export function rectifyConfusion(text: string): string;
}
