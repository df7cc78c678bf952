/** What only a person can say of a model that is about to be imported: asked for instead of guessed. */
import { AppError, type ErrorReport } from '../shared/errors.ts';

export type ModelQuestion =
  /** How pixels are normalised: mean and standard deviation, or the range that is fed as it is. */
  | { readonly about: 'pixels' }
  /** The file changes its pixels itself, by these operators, and that fits values of 0…1 as well as of 0…255, or neither. */
  | { readonly about: 'range'; readonly operators: readonly string[] }
  /** Side of the square input in pixels. */
  | { readonly about: 'imageSize' }
  /** Which value is the embedding. */
  | { readonly about: 'output'; readonly choices: readonly string[] }
  /** How tokens or a feature map become one embedding. */
  | { readonly about: 'pooling'; readonly choices: readonly ('class' | 'first' | 'mean')[] };

/** As an error it says the same to somebody at the command line, with the option that answers it. */
export class OpenQuestion extends AppError {
  readonly question: ModelQuestion;

  constructor(question: ModelQuestion, { code, message, action }: ErrorReport) {
    super(code, message, { action });
    this.question = question;
  }
}
