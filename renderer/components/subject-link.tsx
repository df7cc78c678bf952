import { Anchor } from '@mantine/core';
import { Link } from 'wouter';
import { subjectPath } from '../api/subject-link.ts';

interface SubjectLinkProps {
  pseudonym: string;
  /** The subject is what the row is about. */
  strong?: boolean;
}

/** A pseudonym that leads to the page of its subject. */
export function SubjectLink({ pseudonym, strong = false }: SubjectLinkProps) {
  return (
    <Anchor
      component={Link}
      href={subjectPath(pseudonym)}
      {...(strong ? { fw: 600 } : { size: 'sm' })}
      style={{ overflowWrap: 'anywhere' }}
    >
      {pseudonym}
    </Anchor>
  );
}
