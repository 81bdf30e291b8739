// Not a trigger that anybody sees: it fills the list of event types in the editor.
const perform = async (z, bundle) => {
  const response = await z.request({
    url: `${bundle.authData.server}/api/v1/event-types`,
    params: { format: 'array' },
  });
  return response.data.map((type) => ({ id: type.name, name: type.name }));
};

module.exports = {
  key: 'event_types',
  noun: 'Event Type',
  display: { label: 'List of Event Types', description: 'Fills a list in the editor.', hidden: true },
  operation: { perform },
};
