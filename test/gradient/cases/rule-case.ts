/** The form of a case: a small computation that uses one operator. */
import type { GraphBuilder } from '../../../core/graph/graph-builder.ts';
import { type Computation, type Feeds, randomTensor } from '../finite-differences.ts';

export interface RuleCase extends Computation {
  readonly op: string;
  readonly title: string;
}

export type Build = (builder: GraphBuilder) => string;

export function ruleCase(
  op: string,
  title: string,
  feeds: Feeds,
  build: Build,
  wrt?: readonly string[],
): RuleCase {
  return { op, title, feeds, build, ...(wrt === undefined ? {} : { wrt }) };
}

export const x234: Feeds = { x: randomTensor([2, 3, 4], 'x234') };
