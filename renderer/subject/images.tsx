import {
  Badge,
  Box,
  Center,
  Checkbox,
  Group,
  Image,
  Pagination,
  SimpleGrid,
  Stack,
  Text,
} from '@mantine/core';
import { IconPencil, IconPhotoOff } from '@tabler/icons-react';
import { useState } from 'react';
import type { SubjectDetail, SubjectImage } from '../../core/api/subject-contract.ts';
import { imagesPerPage, useSubjectImages } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { formatDate, formatPlural } from '../format/format.ts';
import { qualityWords } from '../format/image-words.ts';
import { CorrectDialog } from './correct-dialog.tsx';

/** The face crops of a subject, as the model sees them. */
export function SubjectImages({ subject }: { subject: SubjectDetail }) {
  const [page, setPage] = useState(1);
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const [isCorrecting, setCorrecting] = useState(false);
  const images = useSubjectImages(subject.pseudonym, page);
  const { train, test, setAside } = subject.images;
  const all = train + test + setAside;
  const toggle = (id: number) =>
    setChosen(
      (before) => new Set(before.has(id) ? [...before].filter((one) => one !== id) : [...before, id]),
    );
  return (
    <Section
      title="Images"
      description="The face crops that Anneal keeps, as the model sees them. The photographs themselves stay where they were."
      actions={
        all > 0 && (
          <RoleButton
            needs={['data-manager']}
            variant="default"
            leftSection={<IconPencil size={16} aria-hidden />}
            onClick={() => setCorrecting(true)}
          >
            {chosen.size === 0 ? 'Correct…' : `Correct ${formatPlural(chosen.size, 'image')}…`}
          </RoleButton>
        )
      }
    >
      <Loaded query={images}>
        {({ total, rows }) =>
          total === 0 ? (
            <EmptyState icon={IconPhotoOff} title="No images">
              Images of this subject appear here once they are imported.
            </EmptyState>
          ) : (
            <Stack>
              <SimpleGrid cols={{ base: 2, xs: 3, sm: 4, md: 5, lg: 6 }} spacing="md">
                {rows.map((image) => (
                  <ImageCard
                    key={image.id}
                    image={image}
                    isChosen={chosen.has(image.id)}
                    onToggle={() => toggle(image.id)}
                  />
                ))}
              </SimpleGrid>
              {total > imagesPerPage && (
                <Group justify="flex-end">
                  <Pagination
                    total={Math.ceil(total / imagesPerPage)}
                    value={page}
                    onChange={setPage}
                    getControlProps={(control) => ({ 'aria-label': `${control} page` })}
                  />
                </Group>
              )}
            </Stack>
          )
        }
      </Loaded>
      {isCorrecting && (
        <CorrectDialog
          subject={subject}
          images={[...chosen]}
          onClose={() => setCorrecting(false)}
          onDone={() => {
            setChosen(new Set());
            setPage(1);
            setCorrecting(false);
          }}
        />
      )}
    </Section>
  );
}

const splitLabels = { train: 'for training', test: 'held out' } as const;

interface ImageCardProps {
  image: SubjectImage;
  isChosen: boolean;
  onToggle: () => void;
}

function ImageCard({ image, isChosen, onToggle }: ImageCardProps) {
  const { sourceName, label, split, status, reason, quality, importedAt } = image;
  return (
    <Stack gap={6} role="group" aria-label={`Image ${sourceName}`}>
      <Picture image={image} />
      <Group gap={4}>
        <Badge variant="outline" color="gray">
          {label}
        </Badge>
        {status === 'ready' && split === 'test' && <Badge color="violet">{splitLabels.test}</Badge>}
        {status === 'set-aside' && <Badge color="yellow">set aside</Badge>}
      </Group>
      {quality !== null && (
        <Text size="xs" c="dimmed" className="numbers">
          {qualityWords(quality)}
        </Text>
      )}
      {reason !== null && (
        <Text size="xs" c="dimmed">
          {reason}
        </Text>
      )}
      <Checkbox
        size="xs"
        checked={isChosen}
        onChange={onToggle}
        label={
          <Text
            size="xs"
            style={{ overflowWrap: 'anywhere' }}
            title={`Imported on ${formatDate(importedAt)}`}
          >
            {sourceName}
          </Text>
        }
      />
    </Stack>
  );
}

function Picture({ image: { picture, label } }: { image: SubjectImage }) {
  if (picture === null)
    return (
      <Center className="crop crop-missing">
        <Box c="dimmed">
          <IconPhotoOff size={28} stroke={1.4} role="img" aria-label="No face crop is kept of this image" />
        </Box>
      </Center>
    );
  return <Image src={picture} alt={`Face crop, ${label}`} className="crop" />;
}
