const authentication = require('./authentication');
const newEvent = require('./triggers/new_event');
const eventTypes = require('./triggers/event_types');

module.exports = {
  version: require('./package.json').version,
  platformVersion: require('zapier-platform-core').version,
  authentication: authentication.config,
  beforeRequest: [authentication.addKey],
  triggers: {
    [newEvent.key]: newEvent,
    [eventTypes.key]: eventTypes,
  },
};
