const subscriptions = (bundle) => `${bundle.authData.server}/api/v1/subscriptions`;

// Turning a Zap on: the answer is kept by Zapier as bundle.subscribeData.
const performSubscribe = async (z, bundle) => {
  const response = await z.request({
    url: subscriptions(bundle),
    method: 'POST',
    body: { hookUrl: bundle.targetUrl, event: bundle.inputData.event_type, payload_format: 'data' },
  });
  return response.data;
};

// Turning it off.
const performUnsubscribe = async (z, bundle) => {
  const response = await z.request({ url: `${subscriptions(bundle)}/${bundle.subscribeData.id}`, method: 'DELETE' });
  return response.data;
};

// A hook has come.
const perform = async (z, bundle) => [bundle.cleanedRequest];

// Samples for the editor, in the shape in which hooks come.
const performList = async (z, bundle) => {
  const response = await z.request({
    url: `${bundle.authData.server}/api/v1/event-types/${bundle.inputData.event_type}/samples`,
    params: { payload_format: 'data', limit: 3 },
  });
  return response.data;
};

module.exports = {
  key: 'new_event',
  noun: 'Event',
  display: { label: 'New Event', description: 'Triggers when an event of a type happens.' },
  operation: {
    type: 'hook',
    inputFields: [
      { key: 'event_type', label: 'Event Type', required: true, dynamic: 'event_types.id.name' },
    ],
    performSubscribe,
    performUnsubscribe,
    perform,
    performList,
    sample: { id: 1001, total: 129.5 },
  },
};
