/// Deliberate mistakes that tests of the simulator switch on: each breaks one rule, and the simulator must notice. Release builds have none
/// of them: there `has` is always false.
public enum LaneDefect: String, Sendable, CaseIterable {
    // Of the tracker and the commits.
    case commitTheHighestSeen, completeOnProduce, dropTheGapsOfTheMetadata, stopAtAnOffsetGap, ignoreTheMetadata
    // Of the assignment.
    case workWithoutALease, restartWhatIsInFlight, dropTheHeadOnRevoke, keepWhatIsLost, startBeforeHealth
    // Of admission.
    case takeUnknownForDeleted, spendAnAttemptWhileOpen, twoProbes, retryEarly, lookAtHeadsEarly, chargeTwice, neverCharge
    case ignoreConcurrency, fullBucketAtATakeover, starveAnEndpoint, starveRetries, startForADisabledEndpoint, forgetWhatHealthSays,
        forgetUnwrittenHealth
    // Of the outcome.
    case giveUpOnFailure, parkWhatFails, deliverAgain, giveUpOnTransientProduce, deferWithoutAge, loseWhatIsAstray
    // Of order.
    case reorder, meetEarly, loseAHold, forgetWhenHoldsAreDue, forgetHolds, skipTheHeldHead, passAFailedHead, holdWithoutCovering
    // Of memory.
    case readWithoutBounds, keepRecordsForEver
    // Of egress.
    case blameReceiversForOurEgress
}

extension LaneStateMachine {
    #if DEBUG
        func has(_ defect: LaneDefect) -> Bool { settings.defect == defect }
    #else
        @inline(__always) func has(_ defect: LaneDefect) -> Bool { false }
    #endif
}

#if DEBUG
    extension LaneStateMachine {
        /// What `spendAnAttemptWhileOpen` does.
        mutating func spendAll(_ slot: Int) {
            for token in takeWaiting(slot) {
                guard let record = records[token], let tier = settings.tiers.first else { continue }
                move(token, .retry(tier: tier, dueMilliseconds: now.wall + tier.delayMilliseconds, attempts: record.facts.attempts + 1))
            }
        }
    }
#else
    extension LaneStateMachine { mutating func spendAll(_ slot: Int) {} }
#endif
